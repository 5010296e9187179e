-- (prefix, process, nonce, lease ms, receivers and senders that the process has enough of...)
-- -> {'job', job, request or '', field, value, ...} or {'none', ms until one is due or ''}
-- The nonce becomes the delivery's token: whoever has another one has lost it.
local process, nonce, lease = ARGV[2], ARGV[3], tonumber(ARGV[4])

local function answer(job)
  return {'job', job, redis.call('GET', P .. 'req:' .. job) or '', unpack(redis.call('HGETALL', job_key(job)))}
end

-- The same call again, because its answer was lost on the way.
local mine = redis.call('HMGET', P .. 'hooktake:' .. process, 'nonce', 'job')
if mine[1] == nonce and redis.call('HGET', job_key(mine[2]), 'hooktoken') == nonce then return answer(mine[2]) end

local SENDER = 16  -- a receiver's name begins with its tenant's
local busy = {}
for i = 5, #ARGV do busy[ARGV[i]] = true end

local function next_of(receiver)
  for _, job in ipairs(redis.call('ZRANGEBYSCORE', P .. 'hooks:' .. receiver, '-inf', NOW, 'LIMIT', 0, 100)) do
    if redis.call('HGET', job_key(job), 'hook') == 'pending' then return job end
    redis.call('ZREM', P .. 'hooks:' .. receiver, job)  -- its record is gone
  end
  hook_look(receiver)
end

for _, receiver in ipairs(redis.call('ZRANGEBYSCORE', P .. 'hooks', '-inf', NOW, 'LIMIT', 0, 1000)) do
  local job = not busy[receiver] and not busy[string.sub(receiver, 1, SENDER)] and next_of(receiver)
  if job then
    redis.call('HSET', job_key(job), 'hooktoken', nonce)
    hook_due(job, NOW + lease)
    redis.call('HSET', P .. 'hooktake:' .. process, 'nonce', nonce, 'job', job)
    redis.call('PEXPIRE', P .. 'hooktake:' .. process, lease)
    return answer(job)
  end
end
local first = redis.call('ZRANGEBYSCORE', P .. 'hooks', '(' .. NOW, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return {'none', first[2] and first[2] - NOW or ''}
