#!lua flags=allow-oom
-- (prefix, job, token, sequence, done, failed, bytes, bytes total, progress, current, fetching, files event, index,
--  file, ...)
-- -> 1, or 0 when the job is no longer ours
local job, jk = ARGV[2], job_key(ARGV[2])
if not owned(job, ARGV[3]) then return 0 end
local f = redis.call('HMGET', jk, 'seq', 'done', 'failed', 'bytes', 'progress', 'total', 'tenant')
if tonumber(ARGV[4]) <= tonumber(f[1]) then return 1 end  -- the same call again
-- Figures do not fall: this attempt may go on, under the same number, where another was told to stop.
local function most(old, new) return math.max(tonumber(old), tonumber(new)) end
local done, bytes = most(f[2], ARGV[5]), most(f[4], ARGV[7])
use_of_day('bytes', f[7], bytes - tonumber(f[4]))
redis.call('HSET', jk, 'seq', ARGV[4], 'done', done, 'failed', math.min(most(f[3], ARGV[6]), tonumber(f[6]) - done),
  'bytes', bytes, 'btotal', ARGV[8], 'progress', math.min(most(f[5], ARGV[9]), 99), 'current', ARGV[10])
for i = 13, #ARGV, 2 do redis.call('HSET', P .. 'files:' .. job, ARGV[i], ARGV[i + 1]) end
if ARGV[12] ~= '' then append(job, {'k', 'files', 'f', ARGV[12]}) end
emit(job, ARGV[11])
return 1
