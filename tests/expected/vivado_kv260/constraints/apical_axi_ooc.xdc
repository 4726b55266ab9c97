# Written by apical for kv260 (xck26-sfvc784-2LV-c). Not run in Vivado and not on silicon by its authors.
# apical_axi alone: its clock, and a third of the period (2.222 ns) outside for every other port.
create_clock -name aclk -period 6.667 [get_ports aclk]
set_input_delay -clock aclk 2.222 [get_ports -filter {DIRECTION == IN && NAME != aclk}]
set_output_delay -clock aclk 2.222 [get_ports -filter {DIRECTION == OUT}]
