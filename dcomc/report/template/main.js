"use strict";
/* Fill the page. */

showLatency();
showQuality();
startPipeline();
startTimeline();
showRoofline();
showExpansion();
showDecompositions();
showConfiguration();
showHead();
