#!lua flags=allow-oom
-- (prefix, job, token) -> 1, or 0 when the job is no longer ours
-- Back to the front of the queue, the attempt not charged: the worker stops, the job is not at fault. The figures
-- stay, since they may fall only when the attempt's number rises.
local job, token = ARGV[2], ARGV[3]
if not owned(job, token) then return 0 end
local tenant = redis.call('HGET', job_key(job), 'tenant')
leave(job, tenant, token, NOW)
queue_again(job)
redis.call('HINCRBY', job_key(job), 'attempt', -1)
redis.call('HSET', job_key(job), 'kept', 1)
emit(job)
make_ready(job, tenant, 'LPUSH')
return 1
