-- Confirms an undo. KEYS: the generation, the record. ARGV[2]: the id. ARGV[3]: one octet, 1 where
-- it was undone once before it was handed out to be undone.
local v = call('MGET', KEYS[1], KEYS[2])
local no = begin(v[1])
if no then return no end
local r, id = v[2], ARGV[2]
if not r then
  call('ZREM', 'mf:u', id)
  return {0}
end
if byte(r, 2) ~= 2 then return {32} end
local due = call('ZSCORE', 'mf:u', id)
if not due or now < tonumber(due) then return {0} end
local f = byte(r, 4)
if (bit.band(f, 4) ~= 0) ~= (byte(ARGV[3], 1) == 1) then return {0} end
if bit.band(f, 2) ~= 0 and bit.band(f, 4) == 0 then
  flag(KEYS[2], r, 4)
  call('ZADD', 'mf:u', now + UNDO_GRACE_MS, id)
  return {0}
end
flag(KEYS[2], r, 8)
if not fixed_clock then call('PEXPIREAT', KEYS[2], max(u64(r, 17), now) + 2 * SKEW_MS + KEPT_LONGER_MS) end
call('ZREM', 'mf:u', id)
return {0}
