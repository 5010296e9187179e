#!lua flags=allow-oom
-- (prefix, job, tombstone ttl ms) -> 1 when there was something to delete
-- Called after cancel.lua, so the job is terminal. The request goes at once, the record stays as a tombstone that no
-- route shows until streams and workers have seen the end.
local job, jk = ARGV[2], job_key(ARGV[2])
local f = redis.call('HMGET', jk, 'tenant', 'akey', 'gone', 'akept')
if not f[1] or f[3] then return 0 end
redis.call('HSET', jk, 'gone', 1)
redis.call('UNLINK', P .. 'req:' .. job, P .. 'files:' .. job, P .. 'hooklog:' .. job)
hook_plan(job, false)
redis.call('HDEL', jk, 'hook', 'hooktoken')
redis.call('ZREM', P .. 'jobs:' .. f[1], job)
redis.call('ZREM', P .. 'recent', job)
if f[2] then redis.call('ZADD', P .. 'expiries', NOW, f[2]) end
if f[4] then redis.call('ZADD', P .. 'expiries', NOW, f[4]) end
redis.call('PEXPIRE', jk, ARGV[3])
redis.call('PEXPIRE', P .. 'ev:' .. job, ARGV[3])
return 1
