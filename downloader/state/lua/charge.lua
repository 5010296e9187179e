#!lua flags=allow-oom
-- (prefix, then counter and limit, any number of times) -> what `charge` gives
local counters = {}
for i = 2, #ARGV, 2 do counters[#counters + 1] = {ARGV[i], tonumber(ARGV[i + 1])} end
return charge(counters)
