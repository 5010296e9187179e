-- (prefix, limit) -> {job, token, upload id and key or '', ...} of attempts whose leftovers are due to be swept
local found = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. 'debris', '-inf', NOW, 'LIMIT', 0, tonumber(ARGV[2]))) do
  local job, token = string.match(member, '^(%S+) (%S+)$')
  found[#found + 1] = job
  found[#found + 1] = token
  found[#found + 1] = redis.call('HGET', P .. 'uploads', member) or ''
end
return found
