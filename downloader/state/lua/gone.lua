#!lua flags=allow-oom
-- (prefix, key of an archive or folder of kept files) -> 1: it is deleted, and what it took of its tenant's room is free
local stored = redis.call('HGET', P .. 'sizes', ARGV[2])
if stored then
  local size, tenant = string.match(stored, '^(%d+) (.+)$')
  if redis.call('HINCRBY', P .. 'stored', tenant, -tonumber(size)) <= 0 then redis.call('HDEL', P .. 'stored', tenant) end
  redis.call('HDEL', P .. 'sizes', ARGV[2])
end
redis.call('ZREM', P .. 'expiries', ARGV[2])
return 1
