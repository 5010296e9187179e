-- (prefix, job, tenant, total, ids, request id, traceparent, archive name, request, idempotency key, fingerprint,
--  idempotency ttl ms, queue limit, per minute, record ttl ms, counter of the address or '', its limit per minute,
--  files per day, bytes per day, bytes stored (0 = no limit, each), receiver of the callback or '', file pages...)
-- -> {verdict, job, {total, ids, created, 1 when it was deleted}, what `charge` gave or {}}
-- or {refusal, what it is about, {}, charge}
local job, tenant, idem, fingerprint = ARGV[2], ARGV[3], ARGV[10], ARGV[11]
local jk = job_key(job)

local function known(verdict, id)
  return {verdict, id, redis.call('HMGET', job_key(id), 'total', 'ids', 'created', 'gone'), {}}
end

if redis.call('EXISTS', jk) == 1 then return known('created', job) end  -- our own call again: its answer was lost
local ik = P .. 'idem:' .. tenant .. ':' .. idem
if idem ~= '' then
  local seen = redis.call('HMGET', ik, 'job', 'fp')
  -- The key of a deleted job is free again.
  if seen[1] and redis.call('EXISTS', job_key(seen[1])) == 1 and redis.call('HEXISTS', job_key(seen[1]), 'gone') == 0 then
    if seen[2] ~= fingerprint then return {'mismatch', seen[1], {}, {}} end
    return known('replayed', seen[1])
  end
end
local maintenance = redis.call('GET', P .. 'maintenance')
if maintenance then return {'maintenance', maintenance, {}, {}} end
if redis.call('LLEN', P .. 'ready:' .. tenant) >= tonumber(ARGV[13]) then return {'full', '30', {}, {}} end

local tomorrow = tostring(math.ceil((DAY_MS - NOW % DAY_MS) / 1000))
local files, day_files, day_bytes = tonumber(ARGV[4]), tonumber(ARGV[18]), tonumber(ARGV[19])
local stored_bytes = tonumber(ARGV[20])
local function used(kind) return tonumber(redis.call('GET', day_key(kind, tenant)) or 0) end
if day_files > 0 and used('files') + files > day_files then return {'files', tomorrow, {}, {}} end
if day_bytes > 0 and used('bytes') >= day_bytes then return {'bytes', tomorrow, {}, {}} end
if stored_bytes > 0 then
  local stored = redis.call('HGET', P .. 'stored', tenant)
  if tonumber(stored or 0) >= stored_bytes then return {'stored', stored, {}, {}} end
end
local counters = {{'initiate:' .. tenant, tonumber(ARGV[14])}}
if ARGV[16] ~= '' then counters[2] = {ARGV[16], tonumber(ARGV[17])} end
local charged = charge(counters)
if charged[1] == 0 then return {'rate', tostring(charged[4]), {}, charged} end
use_of_day('files', tenant, files)

local snapshot = {'state', 'queued', 'progress', 0, 'done', 0, 'failed', 0, 'total', files, 'bytes', 0, 'attempt', 0,
  'aname', ARGV[8]}
redis.call('HSET', jk, 'v', 1, 'ev', tell(job, {'k', 'state', unpack(snapshot)}), 'rev', 1, 'tenant', tenant,
  'ids', ARGV[5], 'rid', ARGV[6], 'tp', ARGV[7], 'epoch', 0, 'crashes', 0, 'created', NOW, 'updated', NOW, 'seq', 0,
  unpack(snapshot))
redis.call('SET', P .. 'req:' .. job, ARGV[9])
if ARGV[21] ~= '' then redis.call('HSET', jk, 'hook', 'pending', 'hookto', ARGV[21]) end
for i = 22, #ARGV do redis.call('HSET', P .. 'files:' .. job, 's' .. (i - 22), ARGV[i]) end

local list = P .. 'jobs:' .. tenant
local oldest, keys = redis.call('ZRANGE', list, 0, 19), {}  -- more than come in, so the list does not grow
for i, id in ipairs(oldest) do keys[i] = job_key(id) end
if #keys > 0 and redis.call('EXISTS', unpack(keys)) < #keys then
  for i, id in ipairs(oldest) do
    if redis.call('EXISTS', keys[i]) == 0 then redis.call('ZREM', list, id) end
  end
end
redis.call('ZADD', list, NOW, job)
keep_list(tenant, tonumber(ARGV[15]))
note_recent(job, tonumber(ARGV[15]))
if idem ~= '' then
  redis.call('DEL', ik)
  redis.call('HSET', ik, 'job', job, 'fp', fingerprint)
  redis.call('PEXPIRE', ik, ARGV[12])
end
line_up(job, tenant, 'RPUSH')
return {'created', job, {ARGV[4], ARGV[5], NOW, false}, charged}
