#!lua flags=no-writes
-- (prefix) -> jobs that wait, jobs that wait out a pause before another attempt, jobs that are worked on
local waiting = redis.call('LLEN', P .. 'alone')
for _, tenant in ipairs(redis.call('ZRANGE', P .. 'ring', 0, -1)) do
  waiting = waiting + redis.call('LLEN', P .. 'ready:' .. tenant)
end
return {waiting, redis.call('ZCARD', P .. 'delayed'), redis.call('ZCARD', P .. 'leases')}
