# Written by apical for vcu118 (xcvu9p-flga2104-2L-e). Not run in Vivado and not on silicon by its authors.
# Project flow: everything as a project that opens in the GUI, to a bitstream. First package_ip.tcl, then
# vivado -mode batch -source project.tcl
set here [file normalize [file dirname [info script]]]
set built [file join $here build project]
set reports [file join $here reports]
file mkdir $reports

create_project -force apical $built -part xcvu9p-flga2104-2L-e
if {[llength [get_board_parts -quiet xilinx.com:vcu118:part0:2.4]]} {
    set_property board_part xilinx.com:vcu118:part0:2.4 [current_project]
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
close_project
