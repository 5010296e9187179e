-- Prepended to every script. ARGV[1] is the prefix of all keys; it holds the hash tag, so all lie in one slot.
local P = ARGV[1]
local LIVE_MAX, EVENTS_MAX, WAKE_MAX = 20000, 1000, 64

local time = redis.call('TIME')
local NOW = time[1] * 1000 + math.floor(time[2] / 1000)

local SNAPSHOT = {'state', 'progress', 'done', 'failed', 'total', 'bytes', 'btotal', 'current', 'attempt', 'err',
  'ecode', 'akey', 'aname', 'aexp'}

local function job_key(job) return P .. 'job:' .. job end

-- Append one entry to the live stream and, under the same id, to the job's own.
local function append(job, entry)
  local id = redis.call('XADD', P .. 'live', 'MAXLEN', '~', LIVE_MAX, '*', 'job', job, unpack(entry))
  redis.call('XADD', P .. 'ev:' .. job, 'MAXLEN', '~', EVENTS_MAX, id, unpack(entry))
  redis.call('HSET', job_key(job), 'ev', id, 'updated', NOW)
  redis.call('HINCRBY', job_key(job), 'rev', 1)
  return id
end

-- The job's snapshot as an event, in the same step as the change that made it.
local function emit(job)
  local values = redis.call('HMGET', job_key(job), unpack(SNAPSHOT))
  local entry = {'k', 'state'}
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

-- Put a queued job where a claim finds it. The ring orders tenants by their last turn.
local function make_ready(job, tenant, side)
  redis.call(side, P .. 'ready:' .. tenant, job)
  redis.call('ZADD', P .. 'ring', 'NX', redis.call('GET', P .. 'turn') or 0, tenant)
  wake()
end

-- The attempt is over, whatever came of it: no lease, no place among the running.
local function leave(job, tenant)
  redis.call('ZREM', P .. 'leases', job)
  redis.call('HDEL', P .. 'suspects', job)
  redis.call('SREM', P .. 'running:' .. tenant, job)
  if redis.call('EXISTS', P .. 'ready:' .. tenant) == 1 then wake() end
end

-- What an attempt left behind (or may yet leave) in the bucket is swept from `due` on.
local function sweep_later(job, token, due)
  if token and token ~= '' then redis.call('ZADD', P .. 'debris', due, job .. ' ' .. token) end
end

-- A terminal job: everything that outlives it gets its time to live.
local function retire(job, record_ms, request_ms)
  redis.call('PEXPIRE', job_key(job), record_ms)
  redis.call('PEXPIRE', P .. 'files:' .. job, record_ms)
  redis.call('PEXPIRE', P .. 'ev:' .. job, record_ms)
  redis.call('PEXPIRE', P .. 'req:' .. job, request_ms)
end

-- True while `token` is the job's and the job is being worked on.
local function owned(job, token)
  local held = redis.call('HMGET', job_key(job), 'token', 'state')
  return held[1] == token and held[2] == 'processing'
end
