-- Prepended to every script. ARGV[1] is the prefix of all keys; it holds the hash tag, so all lie in one slot.
local P = ARGV[1]
local LIVE_MAX, EVENTS_MAX, WAKE_MAX = 20000, 1000, 64

local time = redis.call('TIME')
local NOW = time[1] * 1000 + math.floor(time[2] / 1000)

local DAY_MS, HOUR_MS, MINUTE_MS = 86400000, 3600000, 60000

local SNAPSHOT = {'state', 'progress', 'done', 'failed', 'total', 'bytes', 'btotal', 'current', 'attempt', 'err',
  'ecode', 'akey', 'aname', 'aexp'}

local function job_key(job) return P .. 'job:' .. job end

-- Append one entry to the live stream and, under the same id, to the job's own; its record must tell of it.
local function tell(job, entry)
  local id = redis.call('XADD', P .. 'live', 'MAXLEN', '~', LIVE_MAX, '*', 'job', job, unpack(entry))
  redis.call('XADD', P .. 'ev:' .. job, 'MAXLEN', '~', EVENTS_MAX, id, unpack(entry))
  return id
end

local function append(job, entry)
  local id = tell(job, entry)
  redis.call('HSET', job_key(job), 'ev', id, 'updated', NOW)
  redis.call('HINCRBY', job_key(job), 'rev', 1)
  return id
end

-- The job's snapshot as an event, in the same step as the change that made it. `fetching`: what this event alone tells
-- of the files under way, "" for nothing.
local function emit(job, fetching)
  local values = redis.call('HMGET', job_key(job), unpack(SNAPSHOT))
  local entry = {'k', 'state'}
  if fetching and fetching ~= '' then entry = {'k', 'state', 'fetching', fetching} end
  for i, name in ipairs(SNAPSHOT) do
    if values[i] and values[i] ~= '' then
      entry[#entry + 1] = name
      entry[#entry + 1] = values[i]
    end
  end
  return append(job, entry)
end

-- One token wakes one dispatcher; losing it costs a second, never a job.
local function wake()
  if redis.call('LLEN', P .. 'wake') < WAKE_MAX then redis.call('RPUSH', P .. 'wake', '1') end
end

-- A job that took its worker down this often is a suspect: whoever takes it works on nothing else.
local SUSPECT = 2

-- Put a queued job that is no suspect where a claim finds it. The ring orders tenants by their last turn.
local function line_up(job, tenant, side)
  redis.call(side, P .. 'ready:' .. tenant, job)
  redis.call('ZADD', P .. 'ring', 'NX', redis.call('GET', P .. 'turn') or 0, tenant)
  wake()
end

local function make_ready(job, tenant, side)
  if tonumber(redis.call('HGET', job_key(job), 'crashes') or 0) < SUSPECT then return line_up(job, tenant, side) end
  redis.call(side, P .. 'alone', job)
  wake()
end

local function checkpoint_key(job, token) return P .. 'ckpt:' .. job .. ':' .. token end

-- What an attempt made in the bucket, or may yet make, is of no use to anyone: it is swept from `due` on.
local function forsake(job, token, due)
  if not token or token == '' then return end
  redis.call('DEL', checkpoint_key(job, token))
  local member = job .. ' ' .. token
  if redis.call('HEXISTS', P .. 'uploads', member) == 1 then redis.call('ZADD', P .. 'debris', due, member) end
end

-- The attempt is over, whatever came of it: no lease, no place among the running. What it made is swept from `due`
-- on, unless it is what the next attempt goes on from.
local function leave(job, tenant, token, due)
  redis.call('ZREM', P .. 'leases', job)
  redis.call('HDEL', P .. 'suspects', job)
  redis.call('SREM', P .. 'running:' .. tenant, job)
  if token and redis.call('HGET', job_key(job), 'base') ~= token then forsake(job, token, due) end
  if redis.call('EXISTS', P .. 'ready:' .. tenant, P .. 'alone') > 0 then wake() end
end

-- The job waits for another attempt, which tells anew what becomes of each file. What the first one told is left to a
-- thread of the server, and the pages are written again: taking 10,000 fields out one by one takes 14 ms, this takes 1.
local function queue_again(job)
  redis.call('HSET', job_key(job), 'state', 'queued', 'current', '', 'token', '')
  local key, pages = P .. 'files:' .. job, {}
  local page = redis.call('HGET', key, 's0')
  while page do
    pages[#pages + 1] = page
    page = redis.call('HGET', key, 's' .. #pages)
  end
  if redis.call('HLEN', key) == #pages then return end
  redis.call('UNLINK', key)
  for i, kept in ipairs(pages) do redis.call('HSET', key, 's' .. (i - 1), kept) end
end

-- Nobody will go on from what earlier attempts made.
local function forsake_base(job, due)
  forsake(job, redis.call('HGET', job_key(job), 'base'), due)
  redis.call('HDEL', job_key(job), 'base')
end

-- Callbacks. `hooks` has the receivers by the time that something is due for them, `hooks:<receiver>` their jobs by
-- theirs: one that is slow or has many waiting keeps nobody else's from being found. A lease is a later due time.
local function hook_look(receiver)
  local first = redis.call('ZRANGE', P .. 'hooks:' .. receiver, 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', P .. 'hooks', first[2], receiver)
  else
    redis.call('ZREM', P .. 'hooks', receiver)
  end
end

-- The job's callback is looked at again at `due`, or never when that is false.
local function hook_due(job, due)
  local receiver = redis.call('HGET', job_key(job), 'hookto')
  if not receiver then return end
  local waiting = P .. 'hooks:' .. receiver
  if due then
    redis.call('ZADD', waiting, due, job)
    local ttl = redis.call('PTTL', job_key(job))
    if redis.call('PTTL', waiting) < ttl then redis.call('PEXPIRE', waiting, ttl) end
  else
    redis.call('ZREM', waiting, job)
  end
  hook_look(receiver)
end

-- The job's callback is to be tried at `due`, as its record shows, or not any more when that is false.
local function hook_plan(job, due)
  if redis.call('HEXISTS', job_key(job), 'hookto') == 0 then return end
  redis.call('HSET', job_key(job), 'hooknext', due or '')
  hook_due(job, due)
end

-- The list of a tenant's jobs outlives them, those that wait or are worked on for days included.
local function keep_list(tenant, record_ms) redis.call('PEXPIRE', P .. 'jobs:' .. tenant, 2 * record_ms + 7 * DAY_MS) end

-- What happened in this minute and in this hour, over all replicas; a day's failures are looked at by the hour. However
-- many names come, no more than so many are told apart.
local TALLIED_MAX = 200
local function tally(name, amount)
  local minute = P .. 'tally:m:' .. math.floor(NOW / MINUTE_MS)
  local hour = P .. 'tally:h:' .. math.floor(NOW / HOUR_MS)
  for _, one in ipairs({{minute, 2 * HOUR_MS}, {hour, 26 * HOUR_MS}}) do
    local is_new = redis.call('HEXISTS', one[1], name) == 0
    local counted = is_new and redis.call('HLEN', one[1]) >= TALLIED_MAX and 'other' or name
    redis.call('HINCRBY', one[1], counted, amount)
    redis.call('PEXPIRE', one[1], one[2])
  end
end

-- The jobs of all tenants that were taken in or have ended last.
local RECENT_MAX = 200
local function note_recent(job, record_ms)
  redis.call('ZADD', P .. 'recent', NOW, job)
  redis.call('ZREMRANGEBYRANK', P .. 'recent', 0, -RECENT_MAX - 1)
  redis.call('PEXPIRE', P .. 'recent', record_ms)
end

-- A terminal job: everything that outlives it gets its time to live, and its callback is due.
local function retire(job, record_ms, request_ms)
  redis.call('PEXPIRE', job_key(job), record_ms)
  redis.call('PEXPIRE', P .. 'files:' .. job, record_ms)
  redis.call('PEXPIRE', P .. 'ev:' .. job, record_ms)
  redis.call('PEXPIRE', P .. 'req:' .. job, request_ms)
  local f = redis.call('HMGET', job_key(job), 'tenant', 'state', 'ecode')
  keep_list(f[1], record_ms)
  hook_plan(job, NOW)
  tally('jobs:' .. f[2], 1)
  if f[2] == 'failed' then tally('job:' .. f[3], 1) end
  note_recent(job, record_ms)
end

-- True while `token` is the job's and the job is being worked on.
local function owned(job, token)
  local held = redis.call('HMGET', job_key(job), 'token', 'state')
  return held[1] == token and held[2] == 'processing'
end

-- Charge one call to each counter {name, limit} of this minute, or to none of them when one is spent.
-- -> {1 when charged, limit, left, seconds to the reset, number} of the tightest one, {} when there is none
local function charge(counters)
  local minute = math.floor(NOW / MINUTE_MS)
  local reset = math.ceil(((minute + 1) * MINUTE_MS - NOW) / 1000)
  local limit, left, tightest
  for i, counter in ipairs(counters) do
    local rest = counter[2] - tonumber(redis.call('GET', P .. 'rate:' .. counter[1] .. ':' .. minute) or 0)
    if not left or rest < left then limit, left, tightest = counter[2], rest, i end
  end
  if not left then return {} end
  if left <= 0 then return {0, limit, 0, reset, tightest} end
  for _, counter in ipairs(counters) do
    local key = P .. 'rate:' .. counter[1] .. ':' .. minute
    if redis.call('INCR', key) == 1 then redis.call('PEXPIRE', key, 2 * MINUTE_MS) end
  end
  return {1, limit, left - 1, reset, tightest}
end

-- What a tenant has used of `kind` on this day (UTC).
local function day_key(kind, tenant) return P .. 'day:' .. kind .. ':' .. tenant .. ':' .. math.floor(NOW / DAY_MS) end

local function use_of_day(kind, tenant, amount)
  if amount <= 0 then return end
  local key = day_key(kind, tenant)
  if redis.call('INCRBY', key, amount) == amount then redis.call('PEXPIRE', key, 2 * DAY_MS) end
end

-- The archive or folder at `key` takes room of its tenant's until `gone.lua`; said again it counts once.
local function store_bytes(tenant, key, size)
  if redis.call('HSETNX', P .. 'sizes', key, size .. ' ' .. tenant) == 1 then
    redis.call('HINCRBY', P .. 'stored', tenant, size)
  end
end

-- How many jobs a process can work on, known for as long as it calls.
local function note_slots(process, slots, lease)
  redis.call('ZADD', P .. 'slots', NOW + lease, process .. ' ' .. slots)
  redis.call('PEXPIRE', P .. 'slots', lease)
end

-- Three quarters of the slots of all living processes, and at least one.
local function fair_share()
  redis.call('ZREMRANGEBYSCORE', P .. 'slots', '-inf', NOW)
  local slots = 0
  for _, member in ipairs(redis.call('ZRANGE', P .. 'slots', 0, -1)) do
    slots = slots + tonumber(string.match(member, ' (%d+)$'))
  end
  return math.max(1, math.floor(slots * 3 / 4))
end
