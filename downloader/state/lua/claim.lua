-- (prefix, process, nonce, lease ms, running limit per tenant, jobs the process has, its slots, then tenant and its own
--  running limit, any number of times)
-- -> {'none'}, {'drain'} when the process has to be idle before it can take the next job, or
-- {'job', job, tenant, token, attempt, request id, traceparent, created, request, base, 1 when to be run alone, started}
local process, nonce, lease, limit = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local busy = tonumber(ARGV[6]) > 0

local function answer(job)
  local f = redis.call('HMGET', job_key(job), 'tenant', 'token', 'attempt', 'rid', 'tp', 'created', 'base', 'crashes',
    'started')
  local alone = tonumber(f[8]) >= SUSPECT and 1 or 0
  return {'job', job, f[1], f[2], f[3], f[4], f[5], f[6], redis.call('GET', P .. 'req:' .. job) or '', f[7] or '', alone, f[9]}
end

-- The same call again, because its answer was lost on the way: the same job, not another one.
local mine = redis.call('HMGET', P .. 'claim:' .. process, 'nonce', 'job', 'token')
if mine[1] == nonce and owned(mine[2], mine[3]) then return answer(mine[2]) end

note_slots(process, ARGV[7], lease)
for _, job in ipairs(redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', NOW, 'LIMIT', 0, 100)) do
  redis.call('ZREM', P .. 'delayed', job)
  local tenant = redis.call('HGET', job_key(job), 'tenant')
  if tenant then make_ready(job, tenant, 'RPUSH') end
end

local own = {}
for i = 8, #ARGV, 2 do own[ARGV[i]] = tonumber(ARGV[i + 1]) end
local function limit_of(tenant) return own[tenant] or limit end
local function running(tenant) return redis.call('SCARD', P .. 'running:' .. tenant) end

local function take(job, tenant)
  local jk = job_key(job)
  local token = redis.call('HINCRBY', jk, 'epoch', 1) .. '-' .. nonce
  redis.call('HINCRBY', jk, 'attempt', 1)
  redis.call('HSETNX', jk, 'started', NOW)
  -- Who has it, with the token: a replica of an earlier version, which takes it later, leaves this as it stands.
  redis.call('HSET', jk, 'state', 'processing', 'token', token, 'current', '', 'seq', 0, 'by', process .. ' ' .. token)
  if redis.call('HDEL', jk, 'kept') == 0 then
    redis.call('HSET', jk, 'done', 0, 'failed', 0, 'bytes', 0, 'btotal', '', 'progress', 0)
  end
  redis.call('ZADD', P .. 'leases', NOW + lease, job)
  redis.call('SADD', P .. 'running:' .. tenant, job)
  redis.call('HSET', P .. 'claim:' .. process, 'nonce', nonce, 'job', job, 'token', token)
  redis.call('PEXPIRE', P .. 'claim:' .. process, 60000)
  emit(job)
  if redis.call('EXISTS', P .. 'ring') == 1 then wake() end
  return answer(job)
end

-- Suspects first: a process without work takes one; else one process takes nothing more until it is without work.
for _, job in ipairs(redis.call('LRANGE', P .. 'alone', 0, 99)) do
  local f = redis.call('HMGET', job_key(job), 'state', 'tenant')
  if f[1] ~= 'queued' then
    redis.call('LREM', P .. 'alone', 1, job)
  elseif running(f[2]) < limit_of(f[2]) then
    if not busy then
      redis.call('LREM', P .. 'alone', 1, job)
      redis.call('DEL', P .. 'drainer')
      return take(job, f[2])
    end
    local drainer = redis.call('GET', P .. 'drainer')
    if not drainer or drainer == process then
      redis.call('SET', P .. 'drainer', process, 'PX', lease)
      return {'drain'}
    end
    break
  end
end

local function next_of(tenant)
  local job = redis.call('LPOP', P .. 'ready:' .. tenant)
  while job and redis.call('HGET', job_key(job), 'state') ~= 'queued' do
    job = redis.call('LPOP', P .. 'ready:' .. tenant)  -- cancelled or deleted while it waited
  end
  redis.call('ZADD', P .. 'ring', 'XX', redis.call('INCR', P .. 'turn'), tenant)
  if redis.call('EXISTS', P .. 'ready:' .. tenant) == 0 then redis.call('ZREM', P .. 'ring', tenant) end
  return job
end

-- Round robin; while others wait nobody has more than three quarters of the slots, unless they would stay empty.
local tenants = redis.call('ZRANGE', P .. 'ring', 0, 999)
local shares = #tenants > 1 and {fair_share(), math.huge} or {math.huge}
for _, share in ipairs(shares) do
  for _, tenant in ipairs(tenants) do
    if running(tenant) < math.min(limit_of(tenant), share) then
      local job = next_of(tenant)
      if job then return take(job, tenant) end
    end
  end
end
return {'none'}
