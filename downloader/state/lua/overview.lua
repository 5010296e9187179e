#!lua flags=no-writes
-- (prefix, how many at most: running jobs, recent jobs, tenants, replicas; how many minutes and hours of tallies)
-- -> {now, {waiting, pausing, processing}, when the first job was taken in that waits or '', {tenants, bytes stored,
--  replicas: numbers of all}, then lists of: {tenant, waiting, pausing, processing, stored, when its next job was taken
--  in or ''}, running jobs, recent jobs, {replica, known for ms, what it told}, {minute, its tally}, {hour, its tally};
--  and what callers are told in maintenance or false}
-- Jobs and tenants are looked at up to a number; beyond it they are counted only, as in `census.lua`.
local LOOKED_AT = 200

local rows, names = {}, {}
local function row(tenant)
  if not rows[tenant] then
    rows[tenant] = {waiting = 0, pausing = 0, running = 0}
    names[#names + 1] = tenant
  end
  return rows[tenant]
end

local running, leased = {}, redis.call('ZRANGE', P .. 'leases', 0, tonumber(ARGV[2]) - 1, 'WITHSCORES')
for i = 1, #leased, 2 do
  local f = redis.call('HMGET', job_key(leased[i]), 'tenant', 'created', 'started', 'attempt', 'progress', 'done', 'failed',
    'total', 'bytes', 'crashes', 'token', 'by')
  if f[1] then
    row(f[1])
    local by, token = string.match(f[12] or '', '^(%S+) (%S+)$')
    f[12] = token == f[11] and by or ''
    f[11] = leased[i + 1] - NOW
    f[10] = tonumber(f[10]) >= SUSPECT and 1 or 0
    running[#running + 1] = {leased[i], unpack(f, 1, 12)}
  end
end

local function each(jobs, what)
  for _, job in ipairs(jobs) do
    local tenant = redis.call('HGET', job_key(job), 'tenant')
    if tenant then row(tenant)[what] = row(tenant)[what] + 1 end
  end
end
each(redis.call('LRANGE', P .. 'alone', 0, LOOKED_AT - 1), 'waiting')
each(redis.call('ZRANGE', P .. 'delayed', 0, LOOKED_AT - 1), 'pausing')
local waiting, others, counted = redis.call('LLEN', P .. 'alone'), 0, {}
for _, tenant in ipairs(redis.call('ZRANGE', P .. 'ring', 0, -1)) do
  local here = redis.call('LLEN', P .. 'ready:' .. tenant)
  waiting = waiting + here
  if rows[tenant] or #names < 2 * LOOKED_AT then
    row(tenant).waiting = row(tenant).waiting + here
  else
    others, counted[tenant] = others + 1, true
  end
end

local stored, stored_in_all, flat = {}, 0, redis.call('HGETALL', P .. 'stored')
for i = 1, #flat, 2 do
  local tenant = flat[i]
  stored[tenant], stored_in_all = flat[i + 1], stored_in_all + tonumber(flat[i + 1])
  if not rows[tenant] and not counted[tenant] then
    if #names < 3 * LOOKED_AT then row(tenant) else others = others + 1 end
  end
end

local waits_since
local function taken_in(job)
  local created = job and redis.call('HGET', job_key(job), 'created')
  if created then waits_since = math.min(waits_since or math.huge, tonumber(created)) end
  return created or ''
end
taken_in(redis.call('LINDEX', P .. 'alone', 0))

for _, tenant in ipairs(names) do
  local one = rows[tenant]
  one.running = redis.call('SCARD', P .. 'running:' .. tenant)
  one.busy = one.waiting + one.pausing + one.running
  one.since = taken_in(redis.call('LINDEX', P .. 'ready:' .. tenant, 0))
end
table.sort(names, function(a, b)
  if rows[a].busy ~= rows[b].busy then return rows[a].busy > rows[b].busy end
  return a < b
end)
local tenants = {}
for i = 1, math.min(#names, tonumber(ARGV[4])) do
  local tenant, one = names[i], rows[names[i]]
  tenants[i] = {tenant, one.waiting, one.pausing, one.running, stored[tenant] or 0, one.since}
end

local recent = {}
for _, job in ipairs(redis.call('ZREVRANGE', P .. 'recent', 0, tonumber(ARGV[3]) - 1)) do
  local f = redis.call('HMGET', job_key(job), 'tenant', 'state', 'created', 'started', 'completed', 'done', 'failed',
    'total', 'bytes', 'asize', 'ecode', 'gone')
  if f[1] and not f[12] then recent[#recent + 1] = {job, unpack(f, 1, 11)} end
end

local replicas, known = {}, redis.call('ZRANGEBYSCORE', P .. 'replicas', '(' .. NOW, '+inf')
table.sort(known) -- else those that are shown would be others at each look
for i = 1, math.min(#known, tonumber(ARGV[5])) do
  local lives = redis.call('ZSCORE', P .. 'replicas', known[i]) - NOW
  replicas[i] = {known[i], lives, redis.call('HGET', P .. 'replica:' .. known[i], 'told') or ''}
end

local function tallies(kind, length, count)
  local found, now = {}, math.floor(NOW / length)
  for number = now - count + 1, now do
    found[#found + 1] = {number, redis.call('HGETALL', P .. 'tally:' .. kind .. ':' .. number)}
  end
  return found
end
local minutes, hours = tallies('m', MINUTE_MS, tonumber(ARGV[6])), tallies('h', HOUR_MS, tonumber(ARGV[7]))

local counts = {waiting, redis.call('ZCARD', P .. 'delayed'), redis.call('ZCARD', P .. 'leases')}
local totals = {#names + others, stored_in_all, #known}
return {NOW, counts, waits_since or '', totals, tenants, running, recent, replicas, minutes, hours,
  redis.call('GET', P .. 'maintenance')}
