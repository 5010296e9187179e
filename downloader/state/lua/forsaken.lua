-- (prefix, job, token) -> upload id and key of what the attempt stored, if nobody needs it any more; else false
-- True for ever once it is: an attempt that is neither its job's nor its base can become neither again.
local job, token = ARGV[2], ARGV[3]
if owned(job, token) or redis.call('HGET', job_key(job), 'base') == token then return false end
return redis.call('HGET', P .. 'uploads', job .. ' ' .. token)
