-- What every transition stands on: the caller's head, the time, gates and writes that end.
--
-- ARGV[1], the head: the adopted generation (30 octets), the broker's clock in ms (8), the tolerated
-- difference in ms (4, 0: any), flags (1): 1 the broker's clock counts, 2 first bindings go elsewhere.
-- Answers: {code, ...}; `answer.rs` holds the codes. A script decides first and writes last: an error in
-- between leaves nothing half done. Numbers are doubles: every time is below 2^53.
local byte, sub, pack, unp = string.byte, string.sub, struct.pack, struct.unpack
local call, floor, max, min = redis.call, math.floor, math.max, math.min
local FENCE_MAX = 281474976710655
local NEVER = 9007199254740991
local GATE, MARK, KEYS_CHANGED = '\1', '\2', '\3'
local ZEROS = string.rep('\0', 16)

-- `struct.unpack` also returns where it ended; these return the number alone.
local function u64(s, at) return (unp('>I8', s, at or 1)) end
local function u48(s, at) return (unp('>I6', s, at or 1)) end
local function u32(s, at) return (unp('>I4', s, at or 1)) end

local head = ARGV[1]
local clock, skew, flags = unp('>I8I4B', head, 31)
local fixed_clock = flags % 2 == 1
local hot = flags >= 2
local now = clock
if not fixed_clock then
  local t = call('TIME')
  now = t[1] * 1000 + floor(t[2] / 1000)
end

-- The version of the sealed keys; 0 for none.
local function keys_version()
  local version = call('GETRANGE', 'mf:keys', 0, 7)
  return #version == 8 and u64(version) or 0
end

-- Stores a value that counts until `ends`. Redis keeps it for longer, so that a clock that was ahead a little and goes
-- back finds it again. With a fixed clock nothing ends by the server's.
local function put(key, value, ends)
  if fixed_clock then
    call('SET', key, value)
  else
    call('SET', key, value, 'PXAT', max(ends, 1) + KEPT_LONGER_MS)
  end
end

-- Until when a fence that moves now is kept.
local function fence_ends()
  return now + u64(head, 23) + 2 * SKEW_MS
end

-- The fence that stands in a gate; nil for none.
local function fence_of(gate)
  if not gate then return nil end
  local version, blocked, fence, ends = unp('>BBI8I8', gate)
  if version ~= 1 then error('gate: unknown version') end
  if blocked > 1 or fence > FENCE_MAX then error('gate: none of ours') end
  if fence ~= 0 and now < ends then return fence end
end

-- Whether a block stands in a gate.
local function blocks(gate)
  if not gate or byte(gate, 2) ~= 1 then return false end
  local ends = u64(gate, 27)
  return ends == 0 or now < ends
end

-- Whether a mark stands.
local function stands(mark)
  return mark and now < u64(mark)
end

-- Enters what a snapshot must have until it ends; what is over and kept no longer goes, more at a time than comes.
local function remember_until(key, id, ends)
  call('ZADD', key, ends, id)
  local over = call('ZRANGEBYSCORE', key, '-inf', now - KEPT_LONGER_MS, 'LIMIT', 0, 4)
  if #over > 0 then call('ZREM', key, unpack(over)) end
end

-- What an event tells of a gate: `domain::feed` has the layout.
local function told(id, gate)
  return id .. sub(gate, 3, 26) .. sub(gate, 2, 2) .. sub(gate, 27, 34)
end

-- An event of now.
local function event(kind, revocation, what)
  return '\1' .. kind .. pack('>I8', now) .. revocation .. what
end

-- Counts a change and adds its event to the feed under that number.
local function publish(kind, revocation, what)
  local number = call('INCR', 'mf:changes')
  call('XADD', 'mf:feed', 'MAXLEN', '~', FEED_KEPT, string.format('%.0f-0', number), 'e',
    event(kind, revocation, what))
  return number
end

-- Writes a gate and keeps the set of blocks. A standing block without an end has no end in Redis either.
local function put_gate(key, id, blocked, fence, fence_ends_at, version, block_ends, tail)
  local value = pack('>BBI8I8I8I8', 1, blocked, fence, fence_ends_at, version, block_ends) .. tail
  if blocked == 1 then call('SADD', 'mf:blocks', id) else call('SREM', 'mf:blocks', id) end
  if blocked == 1 and block_ends == 0 then
    remember_until('mf:gates', id, NEVER)
    call('SET', key, value)
  else
    remember_until('mf:gates', id, max(fence_ends_at, block_ends))
    put(key, value, max(fence_ends_at, block_ends))
  end
  return value
end

-- Moves the fence of a gate; the block stays as it is. `tail`: its words where it is new.
local function move_fence(key, id, gate, tail)
  local blocked, fence, ends, version, block_ends = 0, 0, 0, 0, 0
  if gate then
    local _
    _, blocked, fence, ends, version, block_ends = unp('>BBI8I8I8I8', gate)
    tail = sub(gate, 35)
  end
  fence = min(max(fence + 1, now), FENCE_MAX)
  return put_gate(key, id, blocked, fence, max(ends, fence_ends()), version, block_ends, tail), fence
end

-- Index entries of a mode (0 online, 1 feed, 2 offline) have scores of their own range: mode times `MODE`, and the
-- expiry. So each mode's are counted, and its last one is found, without looking at the others.
local MODE, MODES = 17592186044416, 3

-- How many entries of a mode are not over.
local function live_of(key, mode)
  return call('ZCOUNT', key, mode * MODE + now + 1, (mode + 1) * MODE - 1)
end

-- How many entries are not over.
local function live(key)
  local n = 0
  for mode = 0, MODES - 1 do n = n + live_of(key, mode) end
  return n
end

-- Writes or extends an index entry; `mode`: none in an expiry partition. The index ends some time after its last entry, so
-- that its end moves once in minutes. One time in eight, by the lease's own randomness, what is over for longer than its
-- record is kept goes, a few at a time.
local function enter(key, id, expires, mode)
  call('ZADD', key, (mode or 0) * MODE + expires, id)
  if fixed_clock then return end
  local ends = expires + 2 * SKEW_MS
  if call('PEXPIRETIME', key) < ends then call('PEXPIREAT', key, ends + KEPT_LONGER_MS) end
  if byte(id, 15) % 8 == 0 then
    for m = 0, mode and MODES - 1 or 0 do
      local over = call('ZRANGEBYSCORE', key, m * MODE, m * MODE + now - 2 * SKEW_MS, 'LIMIT', 0, 64)
      if #over > 0 then call('ZREM', key, unpack(over)) end
    end
  end
end
