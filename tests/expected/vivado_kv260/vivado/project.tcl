# Written by apical for kv260 (xck26-sfvc784-2LV-c). Not run in Vivado and not on silicon by its authors.
# Project flow: everything as a project that opens in the GUI, to a bitstream. First package_ip.tcl, then
# vivado -mode batch -source project.tcl
set here [file normalize [file dirname [info script]]]
set built [file join $here build project]
set reports [file join $here reports]
file mkdir $reports

create_project -force apical $built -part xck26-sfvc784-2LV-c
if {[llength [get_board_parts -quiet xilinx.com:kv260_som:part0:1.4]]} {
    set_property board_part xilinx.com:kv260_som:part0:1.4 [current_project]
}
set_property ip_repo_paths [file join $here .. ip] [current_project]
update_ip_catalog
source [file join $here system.tcl]
add_files -norecurse [make_wrapper -files [get_files system.bd] -top]
set_property top system_wrapper [current_fileset]
add_files -fileset constrs_1 -norecurse [file join $here .. constraints board.xdc]
update_compile_order -fileset sources_1

launch_runs synth_1 -jobs 4
wait_on_run synth_1
launch_runs impl_1 -to_step write_bitstream -jobs 4
wait_on_run impl_1
if {[get_property PROGRESS [get_runs impl_1]] ne "100%"} {
    error "apical: the implementation didn't finish; see its log in $built"
}
open_run impl_1
report_utilization -file [file join $reports utilization.rpt]
report_utilization -hierarchical -file [file join $reports utilization_hierarchical.rpt]
report_timing_summary -max_paths 10 -report_unconstrained -file [file join $reports timing.rpt]
report_power -file [file join $reports power.rpt]
write_bitstream -force [file join $here apical_axi.bit]
write_hw_platform -fixed -include_bit -force -file [file join $here apical_axi.xsa]
# What PYNQ reads beside the bitstream.
foreach found [glob -nocomplain -directory $built apical.*/sources_1/bd/system/hw_handoff/system.hwh] {
    file copy -force $found [file join $here apical_axi.hwh]
}
close_project
