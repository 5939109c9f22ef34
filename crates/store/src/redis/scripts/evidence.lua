-- Nonces, evidence and what it observed: `lease::transition::evidence` in Lua.

-- Whether a nonce's used mark stands.
local function spent(used)
  return used and now < u64(used)
end

-- What a binding observed, and when.
local function remember(p, binding)
  p.bound = u64(binding, 35)
  for i = 0, byte(binding, 51) - 1 do
    local key, fence = unp('>c16I6', binding, 52 + i * 22)
    p.seen[key] = fence
  end
end

-- The refusal of single-use evidence that `key` presents: `lease::transition::join` in Lua. Join token: version
-- (1), state (1), kept until (8), expires (8), lease (16), body.
local function once(binding, token, key, mints)
  if not token or now >= u64(token, 3) or not binding or now >= u64(binding, 43) then return {35} end
  if byte(token) ~= 1 then error('join token: unknown version') end
  local of = sub(binding, 3, 34)
  if of == key then return {34} end
  if of ~= ZEROS .. ZEROS then return {12} end
  if u64(binding, 35) < u64(head, 15) then return {11} end
  if not mints or byte(token, 2) ~= 0 or now >= u64(token, 11) then return {35} end
end

-- Presents evidence. `e`: key (32), issued (8), kept until (8), flags (1: 1 another key may take it over, 2 one
-- mint uses it up; then its join token stands behind its only name), names (1), the place of its own
-- gate in KEYS (1), how many values it observes (1), and for each its dimension key (16) and its gate's
-- place (1); empty for no evidence. `v` holds the values of KEYS, `at` is the place of the first name.
-- `mints`: whether this call may take it over or use it up. Returns a refusal, or nil and what it comes to. Binding: version (1), changes (1), key (32), bound (8),
-- until (8), pairs (1), each key (16) and fence (6).
local function present(e, v, at, mints)
  local p = { names = {}, seen = {} }
  if e == '' then return nil, p end
  local issued, ends, flags, names, own, count = unp('>I8I8BBBB', e, 33)
  if issued < u64(head, 15) - (u32(head, 3) > 1 and 0 or SKEW_MS) then return {11} end
  if flags >= 2 then
    local no = once(v[at], v[at + 1], sub(e, 1, 32), mints)
    if no then return no end
    remember(p, v[at])
    p.ends = u64(v[at], 43)
    p.value = sub(v[at], 1, 2) .. sub(e, 1, 32) .. sub(v[at], 35)
    p.names[1] = at
    p.join = at + 1
    return nil, p
  end
  local found
  for i = at, at + names - 1 do
    local b = v[i]
    if b and now < u64(b, 43) then
      if found and sub(found, 3, 34) ~= sub(b, 3, 34) then return {12} end
      found = found or b
    end
  end
  if not found then
    local pairs = {}
    for i = 1, count do
      local key, g = unp('>c16B', e, 36 + i * 17)
      local fence = fence_of(v[g]) or 0
      p.seen[key] = fence
      pairs[i] = key .. pack('>I6', fence)
    end
    for i = 1, names do p.names[i] = at + i - 1 end
    p.bound, p.ends = now, ends
    p.value = '\1\0' .. sub(e, 1, 32) .. pack('>I8I8B', now, ends, count) .. table.concat(pairs)
    return nil, p
  end
  remember(p, found)
  p.ends = max(u64(found, 43), ends)
  local rest = pack('>I8', p.ends) .. sub(found, 51)
  if sub(found, 3, 34) == sub(e, 1, 32) then
    p.value = sub(found, 1, 42) .. rest
    for i = at, at + names - 1 do
      local b = v[i]
      local until_ = b and u64(b, 43)
      if not b or now >= until_ or until_ < ends then p.names[#p.names + 1] = i end
    end
    return nil, p
  end
  local changes = byte(found, 2)
  if not (mints and flags == 1 and changes < SUPERSEDE_MAX) then return {12} end
  p.changes = changes + 1
  p.value = string.char(1, p.changes) .. sub(e, 1, 32) .. sub(found, 35, 42) .. rest
  for i = 1, names do p.names[i] = at + i - 1 end
  p.own = own
  local old = v[own] and u64(v[own], 3) or 0
  p.moved = min(max(old + 1, now), FENCE_MAX)
  return nil, p
end

-- The fence that a lease takes for the value `key` whose gate is at `g`; nil where the evidence observed
-- another. `kind`: 1 where the evidence observes the value.
local function observed(p, v, key, g, kind)
  if p.own == g then return p.moved end
  local current = fence_of(v[g])
  if kind ~= 1 then return current or 0 end
  local seen = p.seen[key]
  if seen then
    if current == nil or current == seen then return seen end
    return nil
  end
  current = current or 0
  if current < max(p.bound, 1) then return current end
end

-- Goes over a list of pairs in the order of their keys: dimension key (16), place of its gate (1), kind (1: 0
-- present fence, 1 the evidence's, 2 inherited), position among the command's subjects (1, 255 none),
-- inherited fence (6). Returns the pairs as an observation has them, the first subject that the evidence
-- predates, and the first subject or else carried value that is blocked (255: none).
local function observe(list, subjects, p, v)
  local out, late, blocked, carried = {}, 255, 255, 255
  for i = 0, #list / 25 - 1 do
    local key, g, kind, n, fence = unp('>c16BBBI6', list, i * 25 + 1)
    if kind ~= 2 then
      fence = observed(p, v, key, g, kind)
      if not fence then
        late = min(late, n)
        fence = 0
      end
    end
    if blocks(v[g]) then
      if n == 255 then carried = min(carried, subjects + i) else blocked = min(blocked, n) end
    end
    out[i + 1] = key .. pack('>I6', fence)
  end
  if blocked == 255 then blocked = carried end
  return out, late, blocked
end

-- Whether the binding is new or changed and this connection is not the one for that.
local function elsewhere(p)
  return hot and #p.names > 0
end

-- Writes what presenting evidence comes to. `tail`: the words of its own gate where that is new. `lease`: what
-- a join token was used for. Returns what the feed tells of its gate, where another key took the evidence over.
local function bind(p, v, tail, lease)
  for _, i in ipairs(p.names) do put(KEYS[i], p.value, p.ends) end
  if p.join then
    local token = v[p.join]
    put(KEYS[p.join], '\1\1' .. sub(token, 3, 18) .. lease .. sub(token, 35), u64(token, 3))
  end
  if p.moved then
    local id = sub(KEYS[p.own], 8, 23)
    return told(id, (move_fence(KEYS[p.own], id, v[p.own], tail)))
  end
end
