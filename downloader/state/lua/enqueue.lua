-- (prefix, job, tenant, total, ids, request id, traceparent, archive name, request, idempotency key, fingerprint,
--  idempotency ttl ms, queue limit, per minute, record ttl ms, counter of the address or '', its limit per minute,
--  files per day, bytes per day, bytes stored (0 = no limit, each), receiver of the callback or '', file pages...)
-- -> {verdict, job, record, place in the queue or false, what `charge` gave or {}} or {refusal, what it is about, charge}
local job, tenant, idem, fingerprint = ARGV[2], ARGV[3], ARGV[10], ARGV[11]
local jk = job_key(job)

local function answer(verdict, id, charged)
  local rank = redis.call('LPOS', P .. 'ready:' .. tenant, id, 'RANK', -1)  -- from the end, where new jobs are
  return {verdict, id, redis.call('HGETALL', job_key(id)), rank and rank + 1, charged or {}}
end

if redis.call('EXISTS', jk) == 1 then return answer('created', job) end  -- our own call again: its answer was lost
local ik = P .. 'idem:' .. tenant .. ':' .. idem
if idem ~= '' then
  local seen = redis.call('HMGET', ik, 'job', 'fp')
  -- The key of a deleted job is free again.
  if seen[1] and redis.call('EXISTS', job_key(seen[1])) == 1 and redis.call('HEXISTS', job_key(seen[1]), 'gone') == 0 then
    if seen[2] ~= fingerprint then return {'mismatch', seen[1], {}} end
    return answer('replayed', seen[1])
  end
end
local maintenance = redis.call('GET', P .. 'maintenance')
if maintenance then return {'maintenance', maintenance, {}} end
if redis.call('LLEN', P .. 'ready:' .. tenant) >= tonumber(ARGV[13]) then return {'full', '30', {}} end

local function is_spent(limit, used, more) return limit > 0 and tonumber(used or 0) + more > limit end
local tomorrow = tostring(math.ceil((DAY_MS - NOW % DAY_MS) / 1000))
local files, stored = tonumber(ARGV[4]), redis.call('HGET', P .. 'stored', tenant)
if is_spent(tonumber(ARGV[18]), redis.call('GET', day_key('files', tenant)), files) then return {'files', tomorrow, {}} end
if is_spent(tonumber(ARGV[19]), redis.call('GET', day_key('bytes', tenant)), 1) then return {'bytes', tomorrow, {}} end
if is_spent(tonumber(ARGV[20]), stored, 1) then return {'stored', stored, {}} end
local counters = {{'initiate:' .. tenant, tonumber(ARGV[14])}}
if ARGV[16] ~= '' then counters[2] = {ARGV[16], tonumber(ARGV[17])} end
local charged = charge(counters)
if charged[1] == 0 then return {'rate', tostring(charged[4]), charged} end
use_of_day('files', tenant, files)
redis.call('HSET', jk, 'v', 1, 'state', 'queued', 'tenant', tenant, 'total', ARGV[4], 'ids', ARGV[5], 'rid', ARGV[6],
  'tp', ARGV[7], 'aname', ARGV[8], 'done', 0, 'failed', 0, 'bytes', 0, 'progress', 0, 'epoch', 0, 'attempt', 0,
  'crashes', 0, 'created', NOW, 'seq', 0)
redis.call('SET', P .. 'req:' .. job, ARGV[9])
if ARGV[21] ~= '' then redis.call('HSET', jk, 'hook', 'pending', 'hookto', ARGV[21]) end
for i = 22, #ARGV do redis.call('HSET', P .. 'files:' .. job, 's' .. (i - 22), ARGV[i]) end
local list = P .. 'jobs:' .. tenant
for _, oldest in ipairs(redis.call('ZRANGE', list, 0, 19)) do  -- more than come in, so the list does not grow
  if redis.call('EXISTS', job_key(oldest)) == 0 then redis.call('ZREM', list, oldest) end
end
redis.call('ZADD', list, NOW, job)
keep_list(tenant, tonumber(ARGV[15]))
note_recent(job, tonumber(ARGV[15]))
if idem ~= '' then
  redis.call('DEL', ik)
  redis.call('HSET', ik, 'job', job, 'fp', fingerprint)
  redis.call('PEXPIRE', ik, ARGV[12])
end
emit(job)
make_ready(job, tenant, 'RPUSH')
return answer('created', job, charged)
