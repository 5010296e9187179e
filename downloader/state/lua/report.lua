#!lua flags=allow-oom
-- (prefix, job, token, sequence, done, failed, bytes, bytes total, progress, current, files event, index, file, ...)
-- -> 1, or 0 when the job is no longer ours
local job, jk = ARGV[2], job_key(ARGV[2])
if not owned(job, ARGV[3]) then return 0 end
if tonumber(ARGV[4]) <= tonumber(redis.call('HGET', jk, 'seq')) then return 1 end  -- the same call again
local progress = math.max(tonumber(redis.call('HGET', jk, 'progress')), tonumber(ARGV[9]))
redis.call('HSET', jk, 'seq', ARGV[4], 'done', ARGV[5], 'failed', ARGV[6], 'bytes', ARGV[7], 'btotal', ARGV[8],
  'progress', math.min(progress, 99), 'current', ARGV[10])
for i = 12, #ARGV, 2 do redis.call('HSET', P .. 'files:' .. job, ARGV[i], ARGV[i + 1]) end
if ARGV[11] ~= '' then append(job, {'k', 'files', 'f', ARGV[11]}) end
emit(job)
return 1
