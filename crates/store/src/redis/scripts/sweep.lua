-- One step of a sweep: stores the job's progress, reads a page and ends what the job made dead. KEYS: the generation, the
-- job, and the index, or none for the expiry partitions. ARGV: where the last page ended; the job's id; when it began and
-- its fence (8 each); the job; for how long it stays claimed; the end's reason; the dimension key and the fence (6) that
-- it set, empty for one lease and its descendants; that lease, empty where it was looked at.
local v = call('MGET', KEYS[1], KEYS[2])
local no = begin(v[1])
if no then return no end
if not v[2] or u64(v[2], 17) > 0 then return {0, false, {}, {}} end
local id, reason = ARGV[3], byte(ARGV[7])
local ids, next_place = page(ARGV[2], KEYS[3])
if ARGV[9] ~= '' then ids[#ids + 1] = ARGV[9] end

-- Whether the record observed an older fence than the job's; whatever leads to a lease's descendants is one.
local of, fence = sub(ARGV[8], 1, 16), ARGV[8] ~= '' and u48(ARGV[8], 17)
local function dead(r)
  if not fence then return true end
  local ends, at = 89 + 22 * byte(r, 88), 89
  while true do
    at = string.find(r, of, at, true)
    if not at or at >= ends then return false end
    if (at - 89) % 22 == 0 then return u48(r, at + 16) < fence end
    at = at + 1
  end
end

call('SET', KEYS[2], ARGV[4] .. pack('>I8', 0) .. ARGV[5])
call('ZADD', 'mf:jobs', now + u64(ARGV[6]), id)
local found, broken = {}, {}
if #ids > 0 then
  local keys = {}
  for i, lease in ipairs(ids) do keys[i] = 'mf:l:{l' .. lease .. '}' end
  for i, r in ipairs(call('MGET', unpack(keys))) do
    if r then
      if not readable(r) then
        broken[#broken + 1] = ids[i]
      elseif dead(r) then
        if byte(r, 2) ~= 2 then
          found[#found + 1] = ids[i] .. '\1' .. finish(keys[i], ids[i], r, reason, id)
        elseif sub(r, 41, 56) == id then
          found[#found + 1] = ids[i] .. '\0' .. r
        end
      end
    end
  end
end
return {0, next_place, found, broken}
