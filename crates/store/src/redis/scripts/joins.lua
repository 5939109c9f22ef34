-- Every join token that is still known; those that are gone are forgotten. KEYS: the generation.
local no = begin(call('GET', KEYS[1]))
if no then return no end
local all, known = call('HGETALL', 'mf:joins'), {}
for at = 1, #all, 1000 do
  local keys = {}
  for i = at, min(at + 999, #all), 2 do keys[#keys + 1] = 'mf:w:{b' .. all[i + 1] .. '}' end
  for i, token in ipairs(call('MGET', unpack(keys))) do
    local place = at + i * 2 - 2
    if not token then
      call('HDEL', 'mf:joins', all[place])
    elseif now < u64(token, 3) then
      known[#known + 1] = all[place + 1] .. token
    end
  end
end
return {0, known}
