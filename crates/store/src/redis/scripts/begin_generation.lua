-- Starts a generation where there is none or a lower one, after carrying over keys and blocks by version.
-- KEYS: the generation, the keys, then the gates. ARGV: the head of the next generation, the server's identity,
-- the highest change number seen (8), the carried keys (empty: none), then for each gate its dimension key
-- (16) and its stored form.
local present_generation = call('GET', KEYS[1])
if present_generation and u32(present_generation, 3) >= u32(head, 3) then
  return {0, present_generation, call('GET', 'mf:server') or false}
end
-- Its start was told by a look before, since when the clock may have been set: evidence would be held against a wrong one.
local late = now - u64(head, 15)
if not fixed_clock and (late > CLOCK_BACK_MS or late < -CLOCK_BACK_MS) then return {2, late} end
local keys = ARGV[4]
local stored_keys = call('GET', KEYS[2])
if keys ~= '' and (not stored_keys or u64(stored_keys) < u64(keys)) then
  call('SET', KEYS[2], keys)
end
for i = 3, #KEYS do
  local id, carried_gate, stored = sub(ARGV[i + 2], 1, 16), sub(ARGV[i + 2], 17), call('GET', KEYS[i])
  local _, blocked, fence, ends, version, block_ends = unp('>BBI8I8I8I8', carried_gate)
  local stored_version = 0
  if stored then
    local _, _, stored_fence, stored_ends, of = unp('>BBI8I8I8', stored)
    fence, ends, stored_version = max(fence, stored_fence), max(ends, stored_ends), of
  end
  if stored_version < version then
    put_gate(KEYS[i], id, blocked, fence, ends, version, block_ends, sub(carried_gate, 35))
  end
end
call('SET', 'mf:changes', max(tonumber(call('GET', 'mf:changes') or 0), u64(ARGV[3])))
call('DEL', 'mf:feed')
call('SET', 'mf:server', ARGV[2])
-- From the first tick that a clock which goes back a little is held against.
if not fixed_clock then note(floor(now / TICK_MS) + 1) end
call('SET', KEYS[1], sub(head, 1, 30))
return {0, sub(head, 1, 30), ARGV[2]}
