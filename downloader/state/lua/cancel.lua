#!lua flags=allow-oom
-- (prefix, job, record ttl ms, request ttl ms, lease ms) -> 1 when this call ended the job
local job, jk = ARGV[2], job_key(ARGV[2])
local f = redis.call('HMGET', jk, 'state', 'tenant', 'token')
if f[1] ~= 'queued' and f[1] ~= 'processing' then return 0 end
local due = NOW + tonumber(ARGV[5])  -- its worker may not have heard of it yet
redis.call('ZREM', P .. 'delayed', job)
redis.call('LREM', P .. 'ready:' .. f[2], 1, job)
redis.call('LREM', P .. 'alone', 1, job)
leave(job, f[2], f[3], due)
forsake_base(job, due)
redis.call('HSET', jk, 'state', 'cancelled', 'completed', NOW, 'current', '', 'token', '', 'ecode', 'cancelled',
  'err', 'The job was cancelled.')
emit(job)
retire(job, ARGV[3], ARGV[4])
return 1
