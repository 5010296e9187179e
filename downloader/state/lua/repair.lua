-- (prefix, job) -> 1 when the job was in none of the places where a claim or the reaper would find it, and is again
local job = ARGV[2]
local f = redis.call('HMGET', job_key(job), 'state', 'tenant')
if f[1] == 'processing' then
  if redis.call('ZSCORE', P .. 'leases', job) then return 0 end
  redis.call('ZADD', P .. 'leases', NOW, job)  -- lapsed: the reaper does the rest
  return 1
end
if f[1] ~= 'queued' or redis.call('ZSCORE', P .. 'delayed', job) or redis.call('LPOS', P .. 'alone', job)
  or redis.call('LPOS', P .. 'ready:' .. f[2], job) then return 0 end
make_ready(job, f[2], 'LPUSH')
return 1
