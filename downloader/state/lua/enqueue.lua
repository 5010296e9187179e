-- (prefix, job, tenant, total, ids, request id, traceparent, archive name, request, idempotency key, fingerprint,
--  idempotency ttl ms, queue limit, per minute, record ttl ms, file pages...) -> {verdict, job, record, place in the queue or false}
-- or {refusal, job or seconds}
local job, tenant, idem, fingerprint = ARGV[2], ARGV[3], ARGV[10], ARGV[11]
local jk = job_key(job)

local function answer(verdict, id)
  local rank = redis.call('LPOS', P .. 'ready:' .. tenant, id, 'RANK', -1)  -- from the end, where new jobs are
  return {verdict, id, redis.call('HGETALL', job_key(id)), rank and rank + 1}
end

if redis.call('EXISTS', jk) == 1 then return answer('created', job) end  -- our own call again: its answer was lost
local ik = P .. 'idem:' .. tenant .. ':' .. idem
if idem ~= '' then
  local seen = redis.call('HMGET', ik, 'job', 'fp')
  -- The key of a deleted job is free again.
  if seen[1] and redis.call('EXISTS', job_key(seen[1])) == 1 and redis.call('HEXISTS', job_key(seen[1]), 'gone') == 0 then
    if seen[2] ~= fingerprint then return {'mismatch', seen[1]} end
    return answer('replayed', seen[1])
  end
end
if redis.call('LLEN', P .. 'ready:' .. tenant) >= tonumber(ARGV[13]) then return {'full', '30'} end
local minute = math.floor(NOW / 60000)
local rk = P .. 'rate:' .. tenant .. ':' .. minute
if redis.call('INCR', rk) > tonumber(ARGV[14]) then
  redis.call('DECR', rk)
  redis.call('PEXPIRE', rk, 120000)
  return {'rate', tostring(math.ceil(((minute + 1) * 60000 - NOW) / 1000))}
end
redis.call('PEXPIRE', rk, 120000)
redis.call('HSET', jk, 'v', 1, 'state', 'queued', 'tenant', tenant, 'total', ARGV[4], 'ids', ARGV[5], 'rid', ARGV[6],
  'tp', ARGV[7], 'aname', ARGV[8], 'done', 0, 'failed', 0, 'bytes', 0, 'progress', 0, 'epoch', 0, 'attempt', 0,
  'crashes', 0, 'created', NOW, 'seq', 0)
redis.call('SET', P .. 'req:' .. job, ARGV[9])
for i = 16, #ARGV do redis.call('HSET', P .. 'files:' .. job, 's' .. (i - 16), ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', P .. 'jobs:' .. tenant, '-inf', NOW - tonumber(ARGV[15]) * 2)
redis.call('ZADD', P .. 'jobs:' .. tenant, NOW, job)
redis.call('PEXPIRE', P .. 'jobs:' .. tenant, tonumber(ARGV[15]) * 2)
if idem ~= '' then
  redis.call('DEL', ik)
  redis.call('HSET', ik, 'job', job, 'fp', fingerprint)
  redis.call('PEXPIRE', ik, ARGV[12])
end
emit(job)
make_ready(job, tenant, 'RPUSH')
return answer('created', job)
