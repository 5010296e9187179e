#!lua flags=allow-oom
-- (prefix, place, counters...) -> 1: the place is free again
for i = 3, #ARGV do redis.call('ZREM', P .. 'streams:' .. ARGV[i], ARGV[2]) end
return 1
