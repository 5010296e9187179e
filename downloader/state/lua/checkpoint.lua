-- (prefix, job, token, number, piece, 1 when nothing of earlier attempts is needed any more)
-- -> 1, or 0 when the job is no longer ours
-- The next attempt goes on from the checkpoint of the job's `base`; what this attempt leaves behind is kept for it.
local job, token = ARGV[2], ARGV[3]
if not owned(job, token) then return 0 end
redis.call('HSET', checkpoint_key(job, token), ARGV[4], ARGV[5])
local base = redis.call('HGET', job_key(job), 'base')
if ARGV[6] == '1' and base ~= token then
  redis.call('HSET', job_key(job), 'base', token)
  forsake(job, base, NOW)
end
return 1
