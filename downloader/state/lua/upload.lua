#!lua flags=allow-oom
-- (prefix, job, token, upload id or '', key) -> 1, or 0 when the job is no longer ours
-- Remembered before anything is stored, and with its id before the first part goes out, so that whoever comes later
-- can sweep it.
if not owned(ARGV[2], ARGV[3]) then return 0 end
redis.call('HSET', P .. 'uploads', ARGV[2] .. ' ' .. ARGV[3], ARGV[4] .. ' ' .. ARGV[5])
return 1
