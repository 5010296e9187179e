#!lua flags=allow-oom
-- (prefix, job, token, state, ms until the next try, attempt as JSON) -> 1, or 0 when the delivery is no longer ours
local LOGGED = 20
local job, jk, state = ARGV[2], job_key(ARGV[2]), ARGV[4]
if redis.call('HGET', jk, 'hooktoken') ~= ARGV[3] then return 0 end
redis.call('HDEL', jk, 'hooktoken')
redis.call('HSET', jk, 'hook', state)
redis.call('HINCRBY', jk, 'hookround', 1)
redis.call('HINCRBY', jk, 'rev', 1)
local log = P .. 'hooklog:' .. job
redis.call('RPUSH', log, NOW .. ' ' .. redis.call('HINCRBY', jk, 'hooktries', 1) .. ' ' .. ARGV[6])
redis.call('LTRIM', log, -LOGGED, -1)
redis.call('PEXPIRE', log, redis.call('PTTL', jk))
hook_plan(job, state == 'pending' and NOW + tonumber(ARGV[5]))
return 1
