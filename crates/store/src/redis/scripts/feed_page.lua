-- A part of a snapshot: gates, then marks, each as an event of now. KEYS: the generation. ARGV[2]: where the last part
-- ended: 0 gates, 1 marks (1), its end (8), its id (16), whether there was one (1), limit (4).
local no = begin(call('GET', KEYS[1]))
if no then return no end
local kind, ends, last, started, limit = unp('>BI8c16BI4', ARGV[2])
if started == 0 then last = nil end
local events, next_place, left = {}, false, limit

local function take(key, of, entry)
  local found = entries(key, now, NEVER, ends, last, left)
  last = nil
  left = left - #found / 2
  if #found == 0 then return end
  entry(found)
  if left == 0 then next_place = pack('>BI8c16', of, found[#found], found[#found - 1]) end
end

if kind == 0 then
  take('mf:gates', 0, function(found)
    local keys = {}
    for i = 1, #found, 2 do keys[#keys + 1] = 'mf:f:{d' .. found[i] .. '}' end
    for i, gate in ipairs(call('MGET', unpack(keys))) do
      if gate then events[#events + 1] = event(GATE, ZEROS, told(found[i * 2 - 1], gate)) end
    end
  end)
end
if left > 0 then
  take('mf:marks', 1, function(found)
    for i = 1, #found, 2 do events[#events + 1] = event(MARK, ZEROS, found[i] .. pack('>I8', found[i + 1])) end
  end)
end
return {0, next_place, events}
