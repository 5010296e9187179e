#!lua flags=allow-oom
-- (prefix, grace ms, crashes allowed, delay ms, record ttl ms, request ttl ms, lease ms) -> number of jobs taken back
-- Two-phase: a lapsed lease is marked first and taken only when it is still lapsed `grace` later, so that an outage of
-- Redis longer than a lease does not run every live job twice.
local grace, taken = tonumber(ARGV[2]), 0
for _, job in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', NOW, 'LIMIT', 0, 100)) do
  local jk = job_key(job)
  local f = redis.call('HMGET', jk, 'state', 'token', 'tenant')
  if f[1] ~= 'processing' then
    redis.call('ZREM', P .. 'leases', job)
    redis.call('HDEL', P .. 'suspects', job)
  else
    local mark = redis.call('HGET', P .. 'suspects', job)
    local token, since = string.match(mark or '', '^(%S+) (%d+)$')
    if token ~= f[2] then
      redis.call('HSET', P .. 'suspects', job, f[2] .. ' ' .. NOW)
    elseif NOW - tonumber(since) >= grace then
      taken = taken + 1
      leave(job, f[3], f[2], NOW + tonumber(ARGV[7]))
      local crashes = redis.call('HINCRBY', jk, 'crashes', 1)
      if crashes >= tonumber(ARGV[3]) then
        forsake_base(job, NOW + tonumber(ARGV[7]))
        redis.call('HSET', jk, 'state', 'failed', 'completed', NOW, 'current', '', 'token', '', 'ecode', 'worker_lost',
          'err', 'The job was lost by its worker ' .. crashes .. ' times and is not tried again.')
        emit(job)
        retire(job, ARGV[5], ARGV[6])
      else
        queue_again(job)
        redis.call('ZADD', P .. 'delayed', NOW + tonumber(ARGV[4]) * crashes, job)
        emit(job)
      end
    end
  end
end
if redis.call('ZCOUNT', P .. 'delayed', '-inf', NOW) > 0 then wake() end
return taken
