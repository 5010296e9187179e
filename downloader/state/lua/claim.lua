-- (prefix, process, nonce, lease ms, running limit per tenant)
-- -> {} or {job, tenant, token, attempt, request id, traceparent, created, request}
local process, nonce, lease, limit = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])

local function answer(job)
  local f = redis.call('HMGET', job_key(job), 'tenant', 'token', 'attempt', 'rid', 'tp', 'created')
  return {job, f[1], f[2], f[3], f[4], f[5], f[6], redis.call('GET', P .. 'req:' .. job) or ''}
end

-- The same call again, because its answer was lost on the way: the same job, not another one.
local mine = redis.call('HMGET', P .. 'claim:' .. process, 'nonce', 'job', 'token')
if mine[1] == nonce and owned(mine[2], mine[3]) then return answer(mine[2]) end

for _, job in ipairs(redis.call('ZRANGEBYSCORE', P .. 'delayed', '-inf', NOW, 'LIMIT', 0, 100)) do
  redis.call('ZREM', P .. 'delayed', job)
  local tenant = redis.call('HGET', job_key(job), 'tenant')
  if tenant then make_ready(job, tenant, 'RPUSH') end
end

local function take(job, tenant)
  local jk = job_key(job)
  local token = redis.call('HINCRBY', jk, 'epoch', 1) .. '-' .. nonce
  redis.call('HINCRBY', jk, 'attempt', 1)
  redis.call('HSETNX', jk, 'started', NOW)
  redis.call('HSET', jk, 'state', 'processing', 'token', token, 'done', 0, 'failed', 0, 'bytes', 0, 'progress', 0,
    'current', '', 'seq', 0)
  redis.call('ZADD', P .. 'leases', NOW + lease, job)
  redis.call('SADD', P .. 'running:' .. tenant, job)
  redis.call('HSET', P .. 'claim:' .. process, 'nonce', nonce, 'job', job, 'token', token)
  redis.call('PEXPIRE', P .. 'claim:' .. process, 60000)
  redis.call('ZADD', P .. 'ring', 'XX', redis.call('INCR', P .. 'turn'), tenant)
  emit(job)
end

for _, tenant in ipairs(redis.call('ZRANGE', P .. 'ring', 0, 999)) do
  if redis.call('SCARD', P .. 'running:' .. tenant) < limit then
    local job = redis.call('LPOP', P .. 'ready:' .. tenant)
    while job and redis.call('HGET', job_key(job), 'state') ~= 'queued' do
      job = redis.call('LPOP', P .. 'ready:' .. tenant)  -- cancelled or deleted while it waited
    end
    if job then take(job, tenant) end
    if redis.call('EXISTS', P .. 'ready:' .. tenant) == 0 then redis.call('ZREM', P .. 'ring', tenant) end
    if job then
      if redis.call('EXISTS', P .. 'ring') == 1 then wake() end
      return answer(job)
    end
  end
end
return {}
