#!lua flags=allow-oom
-- (prefix, lease ms, process, its slots, job, token, job, token, ...) -> the jobs that are no longer ours
local lease, lost = tonumber(ARGV[2]), {}
note_slots(ARGV[3], ARGV[4], lease)
for i = 5, #ARGV, 2 do
  if owned(ARGV[i], ARGV[i + 1]) then
    redis.call('ZADD', P .. 'leases', NOW + lease, ARGV[i])
    redis.call('HDEL', P .. 'suspects', ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
