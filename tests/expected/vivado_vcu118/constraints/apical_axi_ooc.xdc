# Written by apical for vcu118 (xcvu9p-flga2104-2L-e). Not run in Vivado and not on silicon by its authors.
# apical_axi alone: its clock, and a third of the period (1.667 ns) outside for every other port.
create_clock -name aclk -period 5 [get_ports aclk]
set_input_delay -clock aclk 1.667 [get_ports -filter {DIRECTION == IN && NAME != aclk}]
set_output_delay -clock aclk 1.667 [get_ports -filter {DIRECTION == OUT}]
