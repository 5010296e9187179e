#!lua flags=allow-oom
-- (prefix, job, token, state, error, code, done, failed, bytes, archive key, name, size, entries, etag, archive ttl ms,
--  link ttl ms, record ttl ms, request ttl ms, first delay before another attempt in ms or -1, failures allowed,
--  folder of kept files or '')
-- -> 'ok', 'again' when the job was queued for another attempt, 'lost' when it is no longer ours
local job, token, state = ARGV[2], ARGV[3], ARGV[4]
local jk = job_key(job)
local held = redis.call('HMGET', jk, 'token', 'state', 'tenant', 'bytes')
if held[1] == token and (held[2] == 'completed' or held[2] == 'failed') then return 'ok' end  -- the same call again
if held[1] ~= token or held[2] ~= 'processing' then return 'lost' end
use_of_day('bytes', held[3], tonumber(ARGV[9]) - tonumber(held[4]))
if state == 'failed' then
  leave(job, held[3], token, NOW)
  -- Failures have a budget of their own: a job that was killed or released has not failed.
  local failures = redis.call('HINCRBY', jk, 'failures', 1)
  if tonumber(ARGV[19]) >= 0 and failures < tonumber(ARGV[20]) then
    queue_again(job)
    redis.call('ZADD', P .. 'delayed', NOW + tonumber(ARGV[19]) * 2 ^ (failures - 1), job)
    emit(job)
    return 'again'
  end
  redis.call('HSET', jk, 'err', ARGV[5], 'ecode', ARGV[6])
else
  local expires = NOW + tonumber(ARGV[15])
  redis.call('HSET', jk, 'progress', 100, 'btotal', ARGV[9], 'akey', ARGV[10], 'aname', ARGV[11], 'asize', ARGV[12],
    'aentries', ARGV[13], 'aetag', ARGV[14], 'aexp', expires)
  redis.call('ZADD', P .. 'expiries', expires + tonumber(ARGV[16]), ARGV[10])
  store_bytes(held[3], ARGV[10], tonumber(ARGV[12]))
  if ARGV[21] ~= '' then
    store_bytes(held[3], ARGV[21], tonumber(ARGV[9]))
    redis.call('HSET', jk, 'akept', ARGV[21])
    redis.call('ZADD', P .. 'expiries', expires + tonumber(ARGV[16]), ARGV[21])
  end
  -- What this attempt stored is the archive now, and no leftover: forgotten before `leave` looks.
  redis.call('HDEL', P .. 'uploads', job .. ' ' .. token)
  leave(job, held[3], token, NOW)
end
forsake_base(job, NOW)
redis.call('HSET', jk, 'state', state, 'done', ARGV[7], 'failed', ARGV[8], 'bytes', ARGV[9], 'current', '',
  'completed', NOW)
emit(job)
retire(job, ARGV[17], ARGV[18])
return 'ok'
