-- (prefix, job, token) -> upload id and key of what the attempt stored, '' if they are not known (any more), or false
-- when somebody needs it. An attempt that is neither its job's nor its base can become neither again. One that comes
-- back late may have stored something after its leftovers were swept and forgotten.
local job, token = ARGV[2], ARGV[3]
local held = redis.call('HMGET', job_key(job), 'token', 'base', 'state')
if (held[1] == token and held[3] ~= 'failed') or held[2] == token then return false end
return redis.call('HGET', P .. 'uploads', job .. ' ' .. token) or ''
