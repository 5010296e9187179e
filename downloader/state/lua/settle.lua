#!lua flags=allow-oom
-- (prefix, job, token, state, error, code, done, failed, bytes, archive key, name, size, entries, etag, archive ttl ms,
--  link ttl ms, record ttl ms, request ttl ms, again after ms or -1, attempts, lease ms)
-- -> 'ok', 'again' when the job was queued for another attempt, 'lost' when it is no longer ours
local job, token, state = ARGV[2], ARGV[3], ARGV[4]
local jk = job_key(job)
local held = redis.call('HMGET', jk, 'token', 'state', 'tenant', 'attempt')
if held[1] == token and (held[2] == 'completed' or held[2] == 'failed') then return 'ok' end  -- the same call again
if held[1] ~= token or held[2] ~= 'processing' then return 'lost' end
leave(job, held[3])
if state == 'failed' then sweep_later(job, token, NOW) end
if state == 'failed' and tonumber(ARGV[19]) >= 0 and tonumber(held[4]) < tonumber(ARGV[20]) then
  redis.call('HSET', jk, 'state', 'queued', 'current', '', 'token', '')
  redis.call('ZADD', P .. 'delayed', NOW + tonumber(ARGV[19]), job)
  emit(job)
  return 'again'
end
redis.call('HSET', jk, 'state', state, 'done', ARGV[7], 'failed', ARGV[8], 'bytes', ARGV[9], 'current', '',
  'completed', NOW)
if state == 'completed' then
  local expires = NOW + tonumber(ARGV[15])
  redis.call('HSET', jk, 'progress', 100, 'btotal', ARGV[9], 'akey', ARGV[10], 'aname', ARGV[11], 'asize', ARGV[12],
    'aentries', ARGV[13], 'aetag', ARGV[14], 'aexp', expires)
  redis.call('ZADD', P .. 'expiries', expires + tonumber(ARGV[16]), ARGV[10])
  redis.call('HDEL', P .. 'uploads', job .. ' ' .. token)
else
  redis.call('HSET', jk, 'err', ARGV[5], 'ecode', ARGV[6])
end
emit(job)
retire(job, ARGV[17], ARGV[18])
return 'ok'
