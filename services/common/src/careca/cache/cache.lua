-- The operations of the result cache. Each is atomic. ARGV[1] is the name of the operation; its arguments follow.
--
-- KEYS[1] is the prefix of a namespace, careca:{NAMESPACE}. All keys start with it, and its braces keep them on one
-- cluster node. The caller cannot list all keys in advance, because only the script knows which entries it removes.
--
--   PREFIX:entry:KEY  hash   origin, created, expires, codec, checksum, payload; with a TTL
--   PREFIX:used       zset   KEY by last use, as a counter of uses: unique, and independent of clocks
--   PREFIX:created    zset   KEY by storage time, in milliseconds
--   PREFIX:expires    zset   KEY by expiry time, in milliseconds
--   PREFIX:sizes      hash   KEY to size of the payload in bytes
--   PREFIX:locks      zset   KEY by end of the lease, in milliseconds
--   PREFIX:holders    hash   KEY to token of the lock's holder
--   PREFIX:counters   hash   hits, misses, stores, evictions, expiries, uses
--
-- Every operation returns {expired, lru, cleared, ...}: how many entries it removed for each reason, then its results.
-- All times are those of the Redis server, so the clocks of replicas do not matter.

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

-- When Redis has expired the data of entries, they are still in the index.
local function purge_expired()
  local size = 0
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', expires, '-inf', now)) do
    size = size + forget(key, 'expired')
  end
  return size
end

-- Redis itself may evict entries early if it has too little memory.
local function purge_evicted()
  for _, key in ipairs(redis.call('ZRANGE', used, 0, -1)) do
    if redis.call('EXISTS', entry_of(key)) == 0 then forget(key, 'lru') end
  end
end

local function touch(key)
  redis.call('ZADD', used, count('uses', 1), key)
end

-- Returns the fields of the entry, or nil if there is no usable entry; an unusable one is removed. An entry that is not
-- in the index is unusable too, because limits and clearing would not apply to it.
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

-- Looks up a result: {codec, checksum, payload}, or nothing.
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

-- Takes back a hit on a damaged entry, and removes the entry unless it has been replaced.
function operations.discard(key, checksum)
  if redis.call('HGET', entry_of(key), 'checksum') == checksum then forget(key, 'cleared') end
  count('hits', -1)
  count('misses', 1)
  return answer()
end

-- Stores a result and evicts others if necessary: {entries, bytes}.
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

-- Adds hits and misses that were counted while Redis was unavailable.
function operations.count(hits, misses)
  count('hits', hits)
  count('misses', misses)
  return answer()
end

-- {hits, misses, stores, evictions, expiries, entries, bytes, oldest, newest}, the last two only if there are entries.
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

-- Removes expired entries, entries of another origin, and locks whose lease has ended.
-- {entries, bytes, locks} that were removed, and {entries, bytes} that are left.
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

-- Removes everything except the counters: {entries, bytes, locks} that were removed, and {0, 0} that are left.
function operations.clear_all()
  local bytes = purge_expired()
  purge_evicted()
  for _, key in ipairs(redis.call('ZRANGE', used, 0, -1)) do bytes = bytes + forget(key, 'cleared') end
  local held = redis.call('ZCARD', locks)
  redis.call('UNLINK', used, created, expires, sizes, locks, holders)
  return answer(removed.expired + removed.cleared, bytes, held, 0, 0)
end

-- Tries to get the lock for a computation: {'stored', now, codec, checksum, payload} if there is a result newer than
-- `since`, {'granted', now} with the lock, or {'held', now} if another holder has the lock.
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

-- Renews a lock: {1}, or {0} if this holder does not have it any more. Never takes a free lock, because this may arrive
-- after the holder has released it.
function operations.renew(key, token, lease)
  if redis.call('HGET', holders, key) ~= token then return answer(0) end
  redis.call('ZADD', locks, now + lease, key)
  return answer(1)
end

-- Releases a lock if this holder still has it.
function operations.release(key, token)
  if redis.call('HGET', holders, key) == token then unlock(key) end
  return answer()
end

return operations[ARGV[1]](unpack(ARGV, 2))
