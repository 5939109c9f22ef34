-- What was used on some days. KEYS: the generation, the counts of each day.
local no = begin(call('GET', KEYS[1]))
if no then return no end
local all = {}
for i = 2, #KEYS do all[#all + 1] = call('HGETALL', KEYS[i]) end
return {0, all}
