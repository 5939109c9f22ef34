-- Forgets a follower (ARGV[2]). KEYS: the generation.
local no = begin(call('GET', KEYS[1]))
if no then return no end
forget({ARGV[2]})
return {0}
