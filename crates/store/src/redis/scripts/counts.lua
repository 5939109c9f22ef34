-- Counts. KEYS: the generation.
local no = begin(call('GET', KEYS[1]))
if no then return no end
local live = 0
for p = 0, 255 do live = live + call('ZCOUNT', 'mf:x:{' .. p .. '}', now + 1, '+inf') end
return {0, live, call('ZCARD', 'mf:jobs'), call('ZCARD', 'mf:u')}
