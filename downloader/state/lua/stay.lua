#!lua flags=allow-oom
-- (prefix, life ms, counter, places...) -> 1: these places are kept for another life
local key = P .. 'streams:' .. ARGV[3]
for i = 4, #ARGV do redis.call('ZADD', key, NOW + tonumber(ARGV[2]), ARGV[i]) end
redis.call('PEXPIRE', key, ARGV[2])
return 1
