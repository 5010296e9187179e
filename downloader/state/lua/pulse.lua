#!lua flags=allow-oom
-- (prefix, replica, life ms, what it tells of itself or '' when it leaves, number of the batch, then name and amount of
--  what it has counted since the batch before, any number of times) -> 1
-- A batch comes again, with its number, when its answer was lost: it counts once. So the number outlives the replica.
local replica, life, told, batch = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local key = P .. 'replica:' .. replica
if batch > tonumber(redis.call('HGET', key, 'batch') or 0) then
  for i = 6, #ARGV, 2 do tally(ARGV[i], ARGV[i + 1]) end
end
redis.call('HSET', key, 'batch', batch, 'told', told)
redis.call('PEXPIRE', key, HOUR_MS)
redis.call('ZREMRANGEBYSCORE', P .. 'replicas', '-inf', NOW)
if told == '' then
  redis.call('ZREM', P .. 'replicas', replica)
else
  redis.call('ZADD', P .. 'replicas', NOW + life, replica)
  redis.call('PEXPIRE', P .. 'replicas', HOUR_MS)
end
return 1
