-- Every gate on which a block stands. KEYS: the generation.
local no = begin(call('GET', KEYS[1]))
if no then return no end
local ids = call('SMEMBERS', 'mf:blocks')
local gates = {}
for at = 1, #ids, 1000 do
  local keys = {}
  for i = at, min(at + 999, #ids) do keys[#keys + 1] = 'mf:f:{d' .. ids[i] .. '}' end
  for i, gate in ipairs(call('MGET', unpack(keys))) do
    if blocks(gate) then
      gates[#gates + 1] = gate
    elseif not gate then
      call('SREM', 'mf:blocks', ids[at + i - 1])
    end
  end
end
return {0, gates}
