#!lua flags=allow-oom
-- (prefix, place, life ms, then counter and limit, any number of times) -> 1, or 0 when a counter is full
-- A place that is not renewed within its life is free again: its process is dead.
local place, life = ARGV[2], tonumber(ARGV[3])
for i = 4, #ARGV, 2 do
  local key = P .. 'streams:' .. ARGV[i]
  redis.call('ZREMRANGEBYSCORE', key, '-inf', NOW)
  if not redis.call('ZSCORE', key, place) and redis.call('ZCARD', key) >= tonumber(ARGV[i + 1]) then return 0 end
end
for i = 4, #ARGV, 2 do
  redis.call('ZADD', P .. 'streams:' .. ARGV[i], NOW + life, place)
  redis.call('PEXPIRE', P .. 'streams:' .. ARGV[i], life)
end
return 1
