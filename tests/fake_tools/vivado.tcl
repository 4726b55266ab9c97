# What the stand-in for Vivado does with each command: look everything up, keep a small model of the design, refuse the rest.
namespace eval model {
    variable project "" design "" step none cells {} ports {} nets {} joined {} segments {} wrappers {} properties {} repos {} packed "" inferred {}
}

proc refuse {text} { return -code error "\[Common 17-165\] $text" }

# Options and arguments of a call; an option that isn't listed, one without its value, too few or too many words fail.
proc parse {name words} {
    set spec [dict get $::known commands $name]
    lassign [dict get $spec arguments] least most
    set options {}; set arguments {}
    for {set i 0} {$i < [llength $words]} {incr i} {
        set word [lindex $words $i]
        if {[regexp {^-[a-zA-Z]} $word]} {
            if {$word in [dict get $spec flags]} {
                dict set options $word 1
            } elseif {$word in [dict get $spec values]} {
                incr i
                if {$i >= [llength $words]} { refuse "$name: $word needs a value" }
                set value [lindex $words $i]
                if {[dict exists $::known values $word $name] && $value ni [dict get $::known values $word $name]} {
                    refuse "$name: $word: expected one of [join [dict get $::known values $word $name]], got $value"
                }
                if {$word eq "-filter"} { check_filter $name $value }
                dict set options $word $value
            } else {
                refuse "$name: unknown option $word"
            }
        } else {
            lappend arguments $word
        }
    }
    set count [llength $arguments]
    if {$count < $least || $count > $most} { refuse "$name: expected $least to $most arguments, got $count" }
    return [list $options $arguments]
}

proc check_filter {name text} {
    foreach {all property} [regexp -all -inline {([A-Za-z_.]+)\s*(?:==|!=|=~|!~)} $text] {
        if {$property ni [dict get $::known filters]} { refuse "$name: -filter: unknown property $property" }
    }
}

proc option {options name {fallback ""}} { return [expr {[dict exists $options $name] ? [dict get $options $name] : $fallback}] }

foreach name [dict keys [dict get $::known commands]] {
    if {[string match *::* $name]} { namespace eval [namespace qualifiers $name] {} }
    proc ::$name {args} [string map [list @NAME@ $name] {
        lassign [parse @NAME@ $args] options arguments
        puts "@NAME@ $args"
        if {[llength [info procs ::do::@NAME@]]} { return [::do::@NAME@ $options $arguments] }
        return ""
    }]
}

namespace eval do { namespace eval ipx {} }

proc do::create_project {options arguments} {
    set part [option $options -part]
    if {$part ni [dict get $::known parts]} { refuse "create_project: unknown part '$part'" }
    set ::model::project [lindex [concat $arguments project_1] 0]
    set ::model::step none
}
proc do::close_project {options arguments} { need_project close_project; set ::model::project "" }
proc need_project {name} { if {$::model::project eq ""} { refuse "$name: no open project" } }
proc do::current_project {options arguments} { need_project current_project; return project }
proc do::current_fileset {options arguments} { need_project current_fileset; return sources_1 }
proc do::current_design {options arguments} { return design }
proc do::get_runs {options arguments} { return $arguments }
proc do::get_ports {options arguments} { return [expr {[llength $arguments] ? $arguments : "all"}] }

proc exists {name path} {
    if {![file isfile $path] && $path ni $::model::wrappers} { refuse "$name: no such file: $path" }
    if {[file extension $path] eq ".xdc"} { uplevel #0 [list source $path] }
}
proc do::add_files {options arguments} { need_project add_files; foreach group $arguments { foreach path $group { exists add_files $path } } }
proc do::read_verilog {options arguments} { need_project read_verilog; exists read_verilog [lindex $arguments 0] }
proc do::read_xdc {options arguments} { need_project read_xdc; exists read_xdc [lindex $arguments 0] }
proc do::read_saif {options arguments} { need_step read_saif synth; exists read_saif [lindex $arguments 0] }

proc do::set_property {options arguments} {
    if {[dict exists $options -dict]} {
        set pairs [dict get $options -dict]; set objects [lindex $arguments 0]
        if {[llength $arguments] != 1} { refuse "set_property -dict: expected the objects, got [llength $arguments] arguments" }
    } elseif {[dict exists $options -name]} {
        set pairs [list [option $options -name] [option $options -value]]; set objects [option $options -objects]
    } else {
        if {[llength $arguments] != 3} { refuse "set_property: expected name, value, objects, got [llength $arguments] arguments" }
        set pairs [lrange $arguments 0 1]; set objects [lindex $arguments 2]
    }
    if {[llength $objects] == 0} { refuse "set_property: no objects" }
    if {[llength $pairs] % 2} { refuse "set_property: expected names and values in pairs" }
    foreach object $objects {
        dict for {name value} $pairs {
            if {[regexp {^cell:(.+)$} $object all cell] && [regexp {^CONFIG\.(.+)$} $name all parameter]} {
                if {![matches $parameter [dict get $::known ips [dict get $::model::cells $cell] config]]} {
                    refuse "set_property: [dict get $::model::cells $cell] has no parameter $parameter"
                }
            } elseif {[string tolower $name] ni [string tolower [dict get $::known properties]]} {
                refuse "set_property: unknown property $name"
            }
            dict set ::model::properties $object [string tolower $name] $value
        }
    }
}
proc do::get_property {options arguments} {
    lassign $arguments name object
    if {[string tolower $name] ni [string tolower [dict get $::known properties]]} { refuse "get_property: unknown property $name" }
    if {$name eq "PROGRESS"} { return "100%" }
    set key [string tolower $name]
    return [expr {[dict exists $::model::properties $object $key] ? [dict get $::model::properties $object $key] : ""}]
}
proc matches {word patterns} {
    foreach pattern $patterns { if {[regexp "^$pattern\$" $word]} { return 1 } }
    return 0
}

proc do::get_board_parts {options arguments} { return [expr {[info exists ::env(FAKE_NO_BOARDS)] ? "" : $arguments}] }
proc do::update_ip_catalog {options arguments} {
    foreach folder [do::get_property {} {ip_repo_paths project}] {
        if {![file isdirectory $folder]} { refuse "update_ip_catalog: no such folder: $folder" }
        foreach found [glob -nocomplain -directory $folder */component.xml] { dict set ::model::repos [file tail [file dirname $found]] 1 }
    }
}
proc do::get_files {options arguments} {
    foreach name $arguments { if {$name ne "$::model::design.bd"} { refuse "get_files: no such file: $name" } }
    return $arguments
}

# The IP packager: the folder gets a component.xml.
proc do::ipx::package_project {options arguments} {
    need_project ipx::package_project
    set ::model::packed [option $options -root_dir]
    if {[do::get_property {} {top sources_1}] eq ""} { refuse "ipx::package_project: no top module is set" }
    set ::model::inferred {s_axi s_axis m_axis}
    return core
}
proc do::ipx::infer_bus_interface {options arguments} {
    lassign $arguments port definition
    if {$port in $::model::inferred} { refuse "ipx::infer_bus_interface: $port is there" }
    if {$definition ni {xilinx.com:signal:clock_rtl:1.0 xilinx.com:signal:reset_rtl:1.0 xilinx.com:signal:interrupt_rtl:1.0}} {
        refuse "ipx::infer_bus_interface: no such definition: $definition"
    }
    lappend ::model::inferred $port
}
proc do::ipx::associate_bus_interfaces {options arguments} {
    foreach name {-busif -clock -reset} {
        if {[dict exists $options $name] && [dict get $options $name] ni $::model::inferred} {
            refuse "ipx::associate_bus_interfaces: $name: no bus interface [dict get $options $name]"
        }
    }
}
proc do::ipx::current_core {options arguments} { return core }
proc do::ipx::get_bus_interfaces {options arguments} { return [lmap n $arguments { expr {$n in $::model::inferred ? $n : [continue]} }] }
proc do::ipx::add_bus_parameter {options arguments} { return parameter }
proc do::ipx::get_memory_maps {options arguments} { return map }
proc do::ipx::get_address_blocks {options arguments} { return block }
proc do::ipx::save_core {options arguments} {
    file mkdir $::model::packed
    set file [open [file join $::model::packed component.xml] w]; puts $file "<component/>"; close $file
}

# Block design.
proc do::create_bd_design {options arguments} {
    need_project create_bd_design
    set ::model::design [lindex $arguments 0]
}
proc do::create_bd_cell {options arguments} {
    set name [lindex $arguments 0]
    set words [split [option $options -vlnv] :]
    if {[llength $words] < 3} { refuse "create_bd_cell: -vlnv: expected vendor:library:name" }
    lassign $words vendor library ip
    if {![dict exists $::known ips $ip]} { refuse "create_bd_cell: no such IP: [option $options -vlnv]" }
    if {$vendor ne "xilinx.com" && ![dict exists $::model::repos $ip]} { refuse "create_bd_cell: $ip isn't in the catalog" }
    if {[dict exists $::model::cells $name]} { refuse "create_bd_cell: there is a cell $name" }
    dict set ::model::cells $name $ip
    return cell:$name
}
proc do::create_bd_port {options arguments} { lappend ::model::ports [lindex $arguments 0]; return port:[lindex $arguments 0] }
proc do::get_bd_ports {options arguments} {
    foreach name $arguments { if {$name ni $::model::ports} { refuse "get_bd_ports: no port $name" } }
    return [lmap name $arguments { string cat port: $name }]
}
proc do::get_bd_cells {options arguments} {
    foreach name $arguments { if {![dict exists $::model::cells $name]} { refuse "get_bd_cells: no cell $name" } }
    return [lmap name $arguments { string cat cell: $name }]
}
proc of_cell {command path} {
    if {![regexp {^/?([^/]+)/(.+)$} $path all cell rest] || ![dict exists $::model::cells $cell]} { refuse "$command: no such object: $path" }
    return [list $cell $rest [dict get $::known ips [dict get $::model::cells $cell]]]
}
proc do::get_bd_pins {options arguments} {
    foreach path $arguments {
        lassign [of_cell get_bd_pins $path] cell pin ip
        if {![matches $pin [concat [dict get $ip outputs] [dict get $ip inputs] [dict get $ip required]]]} { refuse "get_bd_pins: [dict get $::model::cells $cell] has no pin $pin" }
    }
    return $arguments
}
proc do::get_bd_intf_pins {options arguments} {
    foreach path $arguments {
        lassign [of_cell get_bd_intf_pins $path] cell pin ip
        if {![matches $pin [dict keys [dict get $ip interfaces]]]} { refuse "get_bd_intf_pins: [dict get $::model::cells $cell] has no interface $pin" }
    }
    return $arguments
}
proc do::connect_bd_net {options arguments} {
    set drivers {}
    foreach pin $arguments {
        if {[string match port:* $pin]} { lappend drivers $pin; continue }
        lassign [of_cell connect_bd_net $pin] cell name ip
        if {[matches $name [dict get $ip outputs]]} {
            lappend drivers $pin
        } elseif {[dict exists $::model::nets $pin]} {
            refuse "connect_bd_net: $pin is connected twice"
        } else {
            dict set ::model::nets $pin 1
        }
    }
    if {[llength $drivers] != 1} { refuse "connect_bd_net: expected one driver, got [llength $drivers]: $drivers" }
}
proc do::connect_bd_intf_net {options arguments} {
    set modes {}; set kinds {}
    foreach pin $arguments {
        lassign [of_cell connect_bd_intf_net $pin] cell name ip
        if {[dict exists $::model::joined $pin]} { refuse "connect_bd_intf_net: $pin is connected twice" }
        dict set ::model::joined $pin 1
        dict for {pattern what} [dict get $ip interfaces] {
            if {[regexp "^$pattern\$" $name]} { lappend modes [lindex $what 0]; lappend kinds [lindex $what 1] }
        }
    }
    if {[lsort $modes] ne {master slave}} { refuse "connect_bd_intf_net: expected a master and a slave, got $modes" }
    if {[lindex $kinds 0] ne [lindex $kinds 1]} { refuse "connect_bd_intf_net: $kinds don't go together" }
}
proc do::get_bd_addr_spaces {options arguments} {
    foreach path $arguments {
        lassign [of_cell get_bd_addr_spaces $path] cell space ip
        if {![dict exists $ip spaces] || $space ni [dict get $ip spaces]} { refuse "get_bd_addr_spaces: no address space $path" }
    }
    return $arguments
}
proc do::get_bd_addr_segs {options arguments} {
    foreach path $arguments {
        lassign [of_cell get_bd_addr_segs $path] cell segment ip
        if {![dict exists $ip segments] || $segment ni [dict get $ip segments]} { refuse "get_bd_addr_segs: no segment $path" }
    }
    return $arguments
}
proc do::assign_bd_address {options arguments} {
    if {![dict exists $options -offset]} { return }
    if {![regexp {^(\d+)([KMG])$} [option $options -range] all number unit]} { refuse "assign_bd_address: -range: expected like 64K, got [option $options -range]" }
    set size [expr {$number * [dict get {K 1024 M 1048576 G 1073741824} $unit]}]
    set first [expr {[option $options -offset]}]
    if {$size < 4096 || $size & ($size - 1)} { refuse "assign_bd_address: -range: expected a power of two from 4K on, got [option $options -range]" }
    if {$first % $size} { refuse "assign_bd_address: [option $options -offset] isn't a multiple of [option $options -range]" }
    foreach other $::model::segments {
        lassign $other from to
        if {$first < $to && $from < $first + $size} { refuse "assign_bd_address: [option $options -offset] overlaps" }
    }
    lappend ::model::segments [list $first [expr {$first + $size}]]
}
proc do::validate_bd_design {options arguments} {
    dict for {cell ip} $::model::cells {
        foreach pin [dict get $::known ips $ip required] {
            if {![dict exists $::model::nets $cell/$pin]} { refuse "validate_bd_design: $cell/$pin isn't connected" }
        }
        if {$ip in {smartconnect axi_fifo_mm_s}} {
            foreach {key letter} {num_si S num_mi M} {
                if {$ip ne "smartconnect"} { continue }
                for {set i 0} {$i < [dict get $::model::properties cell:$cell config.$key]} {incr i} {
                    set pin $cell/[format %s%02d_AXI $letter $i]
                    if {![dict exists $::model::joined $pin]} { refuse "validate_bd_design: $pin isn't connected" }
                }
            }
            continue
        }
        foreach interface [dict keys [dict get $::known ips $ip interfaces]] {
            if {$interface eq "CLK_IN1_D"} { continue }
            if {![dict exists $::model::joined $cell/$interface]} { refuse "validate_bd_design: $cell/$interface isn't connected" }
        }
    }
    set ::model::step validated
}
proc do::save_bd_design {options arguments} { if {$::model::step ne "validated"} { refuse "save_bd_design: not validated" } }
proc do::make_wrapper {options arguments} {
    set path [file join [pwd] ${::model::design}_wrapper.v]
    lappend ::model::wrappers $path
    return $path
}

# Build steps, in order.
set ::order {none validated synth opt place phys_opt route}
proc need_step {name step} {
    if {[lsearch $::order $::model::step] < [lsearch $::order $step]} { refuse "$name: expected a design after $step, got one after $::model::step" }
}
proc do::synth_design {options arguments} {
    need_project synth_design
    if {[option $options -top] eq ""} { refuse "synth_design: no top module" }
    if {[option $options -part] ni [dict get $::known parts]} { refuse "synth_design: unknown part '[option $options -part]'" }
    set ::model::step synth
}
foreach {name before after} {opt_design synth opt place_design opt place phys_opt_design place phys_opt route_design place route} {
    proc do::$name {options arguments} "need_step $name $before; set ::model::step $after"
}
proc do::launch_runs {options arguments} {
    if {[lindex $arguments 0] eq "synth_1"} { set ::model::step synth; return }
    need_step launch_runs synth
    set ::model::step route
}
proc report {name file options} {
    need_step $name synth
    set path [option $options -file]
    if {$path eq ""} { return }
    if {![file isdirectory [file dirname $path]]} { refuse "$name: no such folder: [file dirname $path]" }
    if {[info exists ::env(FAKE_REPORTS)]} { file copy -force [file join $::env(FAKE_REPORTS) $file] $path } else { close [open $path w] }
}
proc do::report_utilization {options arguments} { report report_utilization utilization.rpt $options }
proc do::report_timing_summary {options arguments} { report report_timing_summary timing.rpt $options }
proc do::report_power {options arguments} { report report_power power.rpt $options }
proc written {name path step} { need_step $name $step; close [open $path w] }
proc do::write_checkpoint {options arguments} { written write_checkpoint [lindex $arguments 0] synth }
proc do::write_bitstream {options arguments} { written write_bitstream [lindex $arguments 0] route }
proc do::write_hw_platform {options arguments} { written write_hw_platform [concat [option $options -file] $arguments] route }

proc run {path} {
    if {![file isfile $path]} { puts "ERROR: no such script: $path"; exit 1 }
    if {[catch {uplevel #0 [list source $path]} message]} {
        puts "ERROR: $message"
        exit 1
    }
}
