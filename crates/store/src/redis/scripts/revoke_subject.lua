-- Moves a fence, and sets a block in the same step. KEYS: the generation, the gate, the job, the index where there is
-- one. ARGV: the job's
-- id, the job, the dimension key, words for a gate without block, 1 for a block, its end, its words.
local v = call('MGET', KEYS[1], KEYS[2])
local no = begin(v[1])
if no then return no end
local gate = v[2]
if ARGV[6] == '1' then
  local fence, ends, version = 0, 0, 0
  if gate then
    local _
    _, _, fence, ends, version = unp('>BBI8I8I8', gate)
  end
  gate = pack('>BBI8I8I8', 1, 1, fence, ends, max(version + 1, now)) .. ARGV[7] .. ARGV[8]
end
local fence
gate, fence = move_fence(KEYS[2], ARGV[4], gate, ARGV[5])
return {0, now, open_job(KEYS[3], ARGV[2], fence, ARGV[3], GATE, told(ARGV[4], gate)), gate, fence, exposure(KEYS[4])}
