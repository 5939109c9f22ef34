-- The feed after a number, and how far it goes. KEYS: the generation. ARGV[2]: the number (8), limit (4).
local no = begin(call('GET', KEYS[1]))
if no then return no end
local after, limit = unp('>I8I4', ARGV[2])
local events = {}
for _, entry in ipairs(call('XRANGE', 'mf:feed', string.format('%.0f-0', after + 1), '+', 'COUNT', limit)) do
  events[#events + 1] = entry[1]
  events[#events + 1] = entry[2][2]
end
return {0, tonumber(call('GET', 'mf:changes') or 0), events}
