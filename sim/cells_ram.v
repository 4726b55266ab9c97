// What the block RAMs of both families do; the families' cells wrap it. Port 0 is A, port 1 is B.
//
// BYTES bytes of 9 bits, bit 8 the parity, which words below 9 bits don't reach. A port's words have 1, 2, 4, or a
// power of two times 9 bits; address bits below the word are ignored. Ports that are enabled at once have one clock.
// MODE: what a port shows in a cycle in which it writes: OLD, NEW, or HELD (its output stays as it is).
// ACROSS: where this port writes what the other one reads, the other one gets the old word. Otherwise it gets what
// nobody may use: here the word's complement, so that a design that does use it fails.
// GATED: a reset acts only where the port is enabled; otherwise it always acts, and stops the port's write.
module block_ram #(
    parameter integer BYTES = 2048, READ_A = 0, READ_B = 0, WRITE_A = 0, WRITE_B = 0,
    parameter [9*BYTES-1:0] INIT = 0,
    parameter [71:0] START_A = 0, START_B = 0, RESET_A = 0, RESET_B = 0,
    parameter MODE_A = "OLD", MODE_B = "OLD",
    parameter [1:0] ACROSS = 0,
    parameter GATED = 1
) (
    input [1:0] clk, en, rst,
    input [1:0][14:0] addr,
    input [1:0][7:0] we,
    input [1:0][71:0] d,
    output reg [1:0][71:0] q
);
    if (!(known(READ_A) && known(READ_B) && known(WRITE_A) && known(WRITE_B)))
        $error("block_ram: no such widths: %0d, %0d, %0d, %0d", READ_A, READ_B, WRITE_A, WRITE_B);
    always_comb if (en == 2'b11 && clk[0] !== clk[1]) $fatal(1, "block_ram: expected one clock for both ports");

    function known(input integer width);
        known = width == 0 || width == 1 || width == 2 || width == 4 || width == 9 || width == 18 || width == 36
            || width == 72;
    endfunction
    function integer count(input integer width);  // bytes of a word, of part of which where it is narrower
        count = width < 9 ? 1 : width / 9;
    endfunction
    function integer first(input [14:0] address, input integer width);  // byte of a word
        first = {20'd0, address[14:3]} / count(width) * count(width);
    endfunction
    function [3:0] place(input [14:0] address, input integer width);  // of a narrow word in its byte
        place = width < 9 ? {1'b0, address[2:0]} & ~(width[3:0] - 4'd1) : 4'd0;
    endfunction
    function [8:0] bits(input [14:0] address, input integer width);  // of the byte that a word reaches
        bits = width < 9 ? ((9'd1 << width) - 9'd1) << place(address, width) : 9'h1ff;
    endfunction
    function [8:0] merged(input [8:0] old, input [8:0] data, input [14:0] address, input integer width);
        merged = (old & ~bits(address, width)) | (data << place(address, width) & bits(address, width));
    endfunction

    reg [8:0] bytes[0:BYTES-1];
    integer n;
    initial begin
        for (n = 0; n < BYTES; n = n + 1) bytes[n] = INIT[9*n+:9];
        q = {START_B, START_A};
    end

    wire [1:0] writes;
    genvar p;
    for (p = 0; p < 2; p = p + 1) begin : ports
        localparam integer READ = p == 0 ? READ_A : READ_B, WRITE = p == 0 ? WRITE_A : WRITE_B;
        localparam integer OTHER = p == 0 ? WRITE_B : WRITE_A;
        localparam MODE = p == 0 ? MODE_A : MODE_B;
        wire any = writes[p] && we[p][count(WRITE)-1:0] != 0;
        assign writes[p] = WRITE != 0 && en[p] && (GATED != 0 || !rst[p]);
        reg [71:0] shown;
        integer i, at, its, own;
        always @(posedge clk[p]) begin
            shown = 0;
            for (i = 0; i < count(READ); i = i + 1) begin
                at = first(addr[p], READ) + i;
                own = at - first(addr[p], WRITE);
                its = at - first(addr[1-p], OTHER);
                shown[9*i+:9] = bytes[at];
                if (!ACROSS[1-p] && writes[1-p] && its >= 0 && its < count(OTHER) && we[1-p][its[2:0]])
                    shown[9*i+:9] = shown[9*i+:9] ^ bits(addr[1-p], OTHER);
                if (MODE == "NEW" && writes[p] && own >= 0 && own < count(WRITE) && we[p][own[2:0]])
                    shown[9*i+:9] = merged(shown[9*i+:9], d[p][9*own+:9], addr[p], WRITE);
            end
            if (rst[p] && (en[p] || GATED == 0)) q[p] <= p == 0 ? RESET_A : RESET_B;
            else if (en[p] && !(any && MODE == "HELD")) q[p] <= shown >> place(addr[p], READ);
            for (i = 0; i < count(WRITE); i = i + 1)
                if (writes[p] && we[p][i]) begin
                    at = first(addr[p], WRITE) + i;
                    its = at - first(addr[1-p], OTHER);
                    if (writes[1-p] && its >= 0 && its < count(OTHER) && we[1-p][its[2:0]])
                        $fatal(1, "block_ram: both ports write a byte");
                    bytes[at] <= merged(bytes[at], d[p][9*i+:9], addr[p], WRITE);
                end
        end
    end
endmodule
