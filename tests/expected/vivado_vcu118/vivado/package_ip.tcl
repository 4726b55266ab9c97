# Written by apical for vcu118 (xcvu9p-flga2104-2L-e). Not run in Vivado and not on silicon by its authors.
# Packs rtl/apical_axi.v as an IP: ../ip/apical_axi/component.xml. Run: vivado -mode batch -source package_ip.tcl
set here [file normalize [file dirname [info script]]]
set packed [file join $here .. ip apical_axi]

create_project -force packaging [file join $here build packaging] -part xcvu9p-flga2104-2L-e
add_files -norecurse [file join $here .. rtl apical_axi.v]
set_property top apical_axi [current_fileset]
update_compile_order -fileset sources_1

ipx::package_project -root_dir $packed -vendor apical -library user -taxonomy /UserIP -import_files -set_current true -force
set core [ipx::current_core]
set_property name apical_axi $core
set_property version 1.0 $core
set_property core_revision 1 $core
set_property display_name {Apical accelerator} $core
set_property description {Network 1234abcd1234abcd} $core
set_property supported_families {zynquplus Production zynquplusRFSOC Production kintexuplus Production virtexuplus Production} $core

# AXI4-Lite and AXI4-Stream are inferred from the ports' names; clock, reset and interrupt are said where they weren't.
foreach {port kind} {aclk clock aresetn reset interrupt interrupt} {
    if {![llength [ipx::get_bus_interfaces -quiet $port -of_objects $core]]} {
        ipx::infer_bus_interface $port xilinx.com:signal:${kind}_rtl:1.0 $core
    }
}
ipx::associate_bus_interfaces -clock aclk -reset aresetn $core
foreach bus {s_axi s_axis m_axis} {
    ipx::associate_bus_interfaces -busif $bus -clock aclk $core
}
set_property value LEVEL_HIGH [ipx::add_bus_parameter SENSITIVITY [ipx::get_bus_interfaces interrupt -of_objects $core]]
set_property range 4K [ipx::get_address_blocks reg0 -of_objects [ipx::get_memory_maps s_axi -of_objects $core]]

ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
close_project
