-- Lease records: `lease::transition::end` in Lua. Places in a record: state 2, reason 3, flags 4, counter 5,
-- issued 9, expires 17, renewable until 25, confirm by 33, revocation 41, signer 57, observation 75 (version,
-- generation at 76, number of pairs at 88, pairs of 22 octets, number of ancestors, ancestors of 16).

-- Whether all places are there that scripts look at.
local function readable(r)
  return #r >= 90 and byte(r) == 1 and byte(r, 2) <= 2 and #r >= 89 + 22 * byte(r, 88)
end

-- The keys of what a record observed: gates, then ancestors' marks; and how many are gates.
local function carried(r)
  local n = byte(r, 88)
  local keys, at = {}, 89
  for i = 1, n do
    keys[i] = 'mf:f:{d' .. sub(r, at, at + 15) .. '}'
    at = at + 22
  end
  local m = byte(r, at)
  at = at + 1
  for i = n + 1, n + m do
    keys[i] = 'mf:m:{l' .. sub(r, at, at + 15) .. '}'
    at = at + 16
  end
  return keys, n
end

-- The one judgement: why the record's credential should not be accepted now. `w`: the values of `keys`,
-- read here where the caller has not read them.
local function judge(r, mark, keys, n, w)
  if stands(mark) then return {28, sub(mark, 9, 24)} end
  local version, state, reason = byte(r, 1, 3)
  if version ~= 1 then error('lease record: unknown version') end
  if state == 0 then return {24} end
  if state == 2 then return {26, reason, sub(r, 41, 56)} end
  if now >= u64(r, 17) then return {25} end
  if sub(r, 76, 87) ~= sub(head, 3, 14) then return {27} end
  if not w then
    keys, n = carried(r)
    if #keys == 0 then return nil end
    w = call('MGET', unpack(keys))
  end
  for i = 1, n do
    local fence = fence_of(w[i])
    if fence and fence ~= u48(r, 83 + 22 * i) then return {27} end
  end
  for i = n + 1, #keys do
    if stands(w[i]) then return {28, sub(w[i], 9, 24)} end
  end
end

-- Whether a block stands on one of the first `n` values.
local function any_blocked(w, n)
  for i = 1, n do
    if blocks(w[i]) then return i end
  end
end

-- Ends a record: state, reason, flags and revocation in one edit; queues the undo of a side effect.
local function finish(key, id, r, reason, revocation)
  local f = byte(r, 4)
  if byte(r, 2) == 0 then f = bit.bor(f, 2) end
  local edit = string.char(2, reason, f) .. sub(r, 5, 40) .. revocation
  call('SETRANGE', key, 1, edit)
  if bit.band(f, 1) ~= 0 then
    local due = now
    if bit.band(f, 2) ~= 0 then due = max(u64(r, 33), now) end
    call('ZADD', 'mf:u', due, id)
  end
  return sub(r, 1, 1) .. edit .. sub(r, 57)
end

-- Sets a record's flag in place.
local function flag(key, r, more)
  call('SETRANGE', key, 3, string.char(bit.bor(byte(r, 4), more)))
end
