-- Sets a block with its next version, or lifts it. KEYS: the generation, the gate. ARGV: the dimension key,
-- 1 to set, the block's end, the gate's words.
local v = call('MGET', KEYS[1], KEYS[2])
local no = begin(v[1])
if no then return no end
local gate = v[2]
if ARGV[3] ~= '1' and not blocks(gate) then return {33} end
local ends, version = 0, 0
if gate then ends, version = unp('>I8I8', gate, 11) end
local set, block_ends = 0, 0
if ARGV[3] == '1' then
  set = 1
  block_ends = u64(ARGV[4])
end
gate = put_gate(KEYS[2], ARGV[2], set, fence_of(gate) or 0, max(ends, fence_ends()),
  max(version + 1, now), block_ends, ARGV[5])
publish(GATE, ZEROS, told(ARGV[2], gate))
return {0, gate}
