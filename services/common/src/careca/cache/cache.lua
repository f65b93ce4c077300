-- The result cache's operations, each of them atomic. ARGV[1] names the operation, the others are its arguments.
--
-- KEYS[1] is the prefix of a namespace, careca:{NAMESPACE}. All keys begin with it, and its braces keep them on one
-- cluster node; entries that have to go are known only here, so their keys cannot be listed by the caller.
--
--   PREFIX:entry:KEY  hash   origin, created, expires, codec, checksum, payload; ends by itself in time
--   PREFIX:used       zset   KEY by last use, as a count of uses: no two are equal and clocks do not matter
--   PREFIX:created    zset   KEY by time of storing, in milliseconds
--   PREFIX:expires    zset   KEY by end of its time, in milliseconds
--   PREFIX:sizes      hash   KEY to bytes of payload
--   PREFIX:locks      zset   KEY by end of its lease, in milliseconds
--   PREFIX:holders    hash   KEY to token of the lock's holder
--   PREFIX:counters   hash   hits, misses, stores, evictions, expiries, uses
--
-- Every operation answers {expired, lru, cleared, ...}: how many entries it removed and why, then its own results.
-- All times are of the Redis server, so that replicas need not agree on the time.

local prefix = KEYS[1]
local used, created, expires = prefix .. ':used', prefix .. ':created', prefix .. ':expires'
local sizes, counters = prefix .. ':sizes', prefix .. ':counters'
local locks, holders = prefix .. ':locks', prefix .. ':holders'

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local removed = {expired = 0, lru = 0, cleared = 0}

local function entry_of(key)
  return prefix .. ':entry:' .. key
end

local function count(counter, by)
  return redis.call('HINCRBY', counters, counter, by)
end

local function forget(key, reason)
  local size = tonumber(redis.call('HGET', sizes, key)) or 0
  redis.call('UNLINK', entry_of(key))
  redis.call('ZREM', used, key)
  redis.call('ZREM', created, key)
  redis.call('ZREM', expires, key)
  redis.call('HDEL', sizes, key)
  removed[reason] = removed[reason] + 1
  if reason == 'expired' then count('expiries', 1) end
  if reason == 'lru' then count('evictions', 1) end
  return size
end

-- Entries past their time are still in the index after Redis removed their data.
local function purge_expired()
  local size = 0
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', expires, '-inf', now)) do
    size = size + forget(key, 'expired')
  end
  return size
end

-- A Redis that is short of memory may itself evict entries before their time.
local function purge_evicted()
  for _, key in ipairs(redis.call('ZRANGE', used, 0, -1)) do
    if redis.call('EXISTS', entry_of(key)) == 0 then forget(key, 'lru') end
  end
end

local function touch(key)
  redis.call('ZADD', used, count('uses', 1), key)
end

-- The entry's fields, or nil where there is none that this caller can use; what is in its place goes. Data that the
-- index does not know is of no use either: no limit would hold for it and no clearing would find it.
local function read(key, origin)
  local fields = redis.call('HMGET', entry_of(key), 'origin', 'codec', 'checksum', 'payload')
  local ends = tonumber(redis.call('ZSCORE', expires, key))
  if ends and ends <= now then
    forget(key, 'expired')
  elseif ends and not fields[1] then
    forget(key, 'lru')
  elseif fields[1] and (not ends or fields[1] ~= origin) then
    forget(key, 'cleared')
  elseif fields[1] then
    return {codec = fields[2], checksum = fields[3], payload = fields[4]}
  end
end

local function total_size()
  local total = 0
  for _, size in ipairs(redis.call('HVALS', sizes)) do total = total + size end
  return total
end

local function answer(...)
  return {removed.expired, removed.lru, removed.cleared, ...}
end

local function unlock(key)
  redis.call('ZREM', locks, key)
  redis.call('HDEL', holders, key)
end

local operations = {}

-- Looks a result up: {codec, checksum, payload}, or nothing.
function operations.get(key, origin)
  local entry = read(key, origin)
  if not entry then
    purge_expired()
    count('misses', 1)
    return answer()
  end
  touch(key)
  count('hits', 1)
  return answer(entry.codec, entry.checksum, entry.payload)
end

-- Takes back a hit on an entry that turned out to be damaged, and removes it unless it has been replaced by now.
function operations.discard(key, checksum)
  if redis.call('HGET', entry_of(key), 'checksum') == checksum then forget(key, 'cleared') end
  count('hits', -1)
  count('misses', 1)
  return answer()
end

-- Stores a result and makes room for it: {entries, bytes}.
function operations.put(key, origin, codec, checksum, payload, ttl, max_entries)
  purge_expired()
  purge_evicted()
  redis.call('HSET', entry_of(key), 'origin', origin, 'created', now, 'expires', now + ttl, 'codec', codec,
    'checksum', checksum, 'payload', payload)
  redis.call('PEXPIRE', entry_of(key), ttl)
  redis.call('ZADD', created, now, key)
  redis.call('ZADD', expires, now + ttl, key)
  redis.call('HSET', sizes, key, #payload)
  touch(key)
  count('stores', 1)
  for _, oldest in ipairs(redis.call('ZRANGE', used, 0, -1 - max_entries)) do forget(oldest, 'lru') end
  return answer(redis.call('ZCARD', used), total_size())
end

-- Counts lookups that were answered, or not, without this Redis.
function operations.count(hits, misses)
  count('hits', hits)
  count('misses', misses)
  return answer()
end

-- {hits, misses, stores, evictions, expiries, entries, bytes, oldest, newest}, the last two absent without entries.
function operations.stats()
  purge_expired()
  purge_evicted()
  local counts = redis.call('HMGET', counters, 'hits', 'misses', 'stores', 'evictions', 'expiries')
  for position = 1, 5 do counts[position] = tonumber(counts[position]) or 0 end
  local oldest = redis.call('ZRANGE', created, 0, 0, 'WITHSCORES')
  local newest = redis.call('ZRANGE', created, -1, -1, 'WITHSCORES')
  local entries, bytes = redis.call('ZCARD', used), total_size()
  return answer(counts[1], counts[2], counts[3], counts[4], counts[5], entries, bytes, oldest[2], newest[2])
end

-- Removes entries past their time or of another origin, and locks whose lease ran out.
-- {entries, bytes, locks} as removed, and {entries, bytes} that are left.
function operations.clear_expired(origin)
  local bytes = purge_expired()
  purge_evicted()
  for _, key in ipairs(redis.call('ZRANGE', used, 0, -1)) do
    if redis.call('HGET', entry_of(key), 'origin') ~= origin then bytes = bytes + forget(key, 'cleared') end
  end
  local orphans = redis.call('ZRANGEBYSCORE', locks, '-inf', now)
  for _, key in ipairs(orphans) do unlock(key) end
  return answer(removed.expired + removed.cleared, bytes, #orphans, redis.call('ZCARD', used), total_size())
end

-- Removes everything but the counters: {entries, bytes, locks} as removed, and {0, 0} that are left.
function operations.clear_all()
  local bytes = purge_expired()
  purge_evicted()
  for _, key in ipairs(redis.call('ZRANGE', used, 0, -1)) do bytes = bytes + forget(key, 'cleared') end
  local held = redis.call('ZCARD', locks)
  redis.call('UNLINK', used, created, expires, sizes, locks, holders)
  return answer(removed.expired + removed.cleared, bytes, held, 0, 0)
end

-- Asks to be the one who computes: {'stored', now, codec, checksum, payload} where a result is there that was stored
-- after `since`, {'granted', now} with the lock, or {'held', now} where another has it.
function operations.acquire(key, origin, token, lease, since)
  if (tonumber(redis.call('ZSCORE', created, key)) or -1) > tonumber(since) then
    local entry = read(key, origin)
    if entry then
      touch(key)
      return answer('stored', now, entry.codec, entry.checksum, entry.payload)
    end
  end
  local ends = tonumber(redis.call('ZSCORE', locks, key))
  if ends and ends > now then return answer('held', now) end
  redis.call('ZADD', locks, now + lease, key)
  redis.call('HSET', holders, key, token)
  return answer('granted', now)
end

-- Keeps a lock for another lease: {1}, or {0} where it is not this holder's any more. Never takes a free lock: this may
-- arrive after the holder gave it back.
function operations.renew(key, token, lease)
  if redis.call('HGET', holders, key) ~= token then return answer(0) end
  redis.call('ZADD', locks, now + lease, key)
  return answer(1)
end

-- Gives a lock back, if it is still this holder's.
function operations.release(key, token)
  if redis.call('HGET', holders, key) == token then unlock(key) end
  return answer()
end

return operations[ARGV[1]](unpack(ARGV, 2))
