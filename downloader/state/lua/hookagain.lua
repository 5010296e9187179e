#!lua flags=allow-oom
-- (prefix, job) -> 'ok', 'unknown', 'none' when the job has no callback, 'active' when it has not ended, 'expired' when nobody knows
-- any more where to
local job, jk = ARGV[2], job_key(ARGV[2])
local f = redis.call('HMGET', jk, 'state', 'hook', 'hooktoken', 'hookto')
if not f[1] then return 'unknown' end
if not f[2] then return 'none' end
if f[1] == 'queued' or f[1] == 'processing' then return 'active' end
if redis.call('EXISTS', P .. 'req:' .. job) == 0 then return 'expired' end
redis.call('HSET', jk, 'hookround', 0)
-- One that is due, or on its way with a lease, is not sent twice.
local due = redis.call('ZSCORE', P .. 'hooks:' .. f[4], job)
if f[2] == 'pending' and due and (f[3] or tonumber(due) <= NOW) then return 'ok' end
redis.call('HSET', jk, 'hook', 'pending')
redis.call('HINCRBY', jk, 'rev', 1)
hook_plan(job, NOW)
return 'ok'
